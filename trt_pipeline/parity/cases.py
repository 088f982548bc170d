"""The cases on which parity is judged: every real sample, and the corners that serving will see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.samples.store import Samples

REAL_SAMPLES = "samples"
# Rows up to this many are named one by one.
_FEW = 3


class Case(Frozen):
    """One batch to run: rows of the samples, and the width that padded inputs are brought to."""

    signature: str
    group: str
    rows: tuple[int, ...]
    width: int | None = None

    @property
    def name(self) -> str:
        first, last = self.rows[0], self.rows[-1]
        if len(self.rows) > 1 and self.rows == tuple(range(first, last + 1)):
            return f"{self.group} [{first}..{last}]"
        if len(self.rows) <= _FEW:
            return f"{self.group} [{', '.join(map(str, self.rows))}]"
        return f"{self.group} [{len(self.rows)} rows from {first} on]"


def cases(signature: SignatureContract, samples: Samples, batch_size: int, max_batch_size: int) -> list[Case]:
    """All cases of one signature: its corners first, then the samples in batches of ``batch_size``.

    Corners are batch 1, an odd batch and the largest; and, where samples have lengths of their
    own, the shortest, the longest, the shortest padded to the longest, and both in one batch. A
    signature with a fixed batch size is only ever fed that many.
    """
    count = max(len(samples), 1)  # a signature without inputs is run once
    if signature.fixed_batch is not None:
        size = signature.fixed_batch
        return [Case(signature=signature.name, group=REAL_SAMPLES, rows=_cycle(start, size, count))
                for start in range(0, count, size)]
    found = list(_corners(signature.name, samples, count, max_batch_size)) if signature.batched else []
    size = batch_size if signature.batched else count
    found += [Case(signature=signature.name, group=REAL_SAMPLES, rows=tuple(range(start, min(start + size, count))))
              for start in range(0, count, size)]
    return found


def _corners(signature: str, samples: Samples, count: int, max_batch_size: int) -> Iterator[Case]:
    def corner(group: str, rows: tuple[int, ...], width: int | None = None) -> Case:
        return Case(signature=signature, group=group, rows=rows, width=width)

    yield corner("batch 1", (count // 2,))
    yield corner("batch odd", _cycle(0, 3, count))
    yield corner("batch max", _cycle(0, max_batch_size, count))
    if samples.padded:
        lengths = samples.lengths
        shortest, longest = int(np.argmin(lengths)), int(np.argmax(lengths))
        yield corner("shortest", (shortest,))
        yield corner("longest", (longest,))
        yield corner("shortest padded", (shortest,), int(lengths[longest]))
        yield corner("shortest + longest", (shortest, longest))


def _cycle(start: int, size: int, count: int) -> tuple[int, ...]:
    """``size`` rows from ``start`` on, beginning again where the samples end."""
    return tuple((start + i) % count for i in range(size))
