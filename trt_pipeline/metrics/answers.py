"""A candidate's outputs on the samples themselves: written while it is judged, read by its metrics.

They lie as the original's do (`parity.reference`): the outputs of case ``i`` in ``<i>/``. Cases that are corners have
no folder here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.backends.base import Runner
from trt_pipeline.parity import reference as references
from trt_pipeline.parity.cases import REAL_SAMPLES, Case
from trt_pipeline.samples import store

Array = npt.NDArray[Any]


class Recorded(Runner):
    """A runner that is asked ``cases`` one after the other, and whose answers to samples are kept in ``folder``."""

    def __init__(self, runner: Runner, cases: Sequence[Case], folder: Path) -> None:
        super().__init__(runner.contract)
        self._runner, self._cases, self._folder = runner, enumerate(cases), folder

    def activate_impl(self) -> None:
        self._runner.activate()

    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        number, case = next(self._cases)
        outputs = self._runner.infer(signature, feeds)
        if case.group == REAL_SAMPLES:
            store.write(outputs, self._folder / str(number))
        return outputs

    def deactivate_impl(self) -> None:
        self._runner.deactivate()


def complete(folder: Path, cases: Sequence[Case], signature: str) -> bool:
    """Whether ``folder`` has the outputs of every sample of ``signature``: a candidate may have failed on the way."""
    return all((folder / str(number)).is_dir() for number, case in enumerate(cases)
               if case.signature == signature and case.group == REAL_SAMPLES)


def read(folder: Path, cases: Sequence[Case], signature: str) -> dict[str, Array]:
    """The outputs of ``signature`` on the samples, by name, one entry a sample, in the samples' order.

    Returns:
        For each output an array (N, ...). Where batches came out in different shapes, as of sentences that are only as
        long as the longest beside them, it is an object array (N,) of the samples' own arrays, in the width of their
        batch: nothing is padded or cut. An output without a row for each sample is an array as it came if all samples
        were one batch, and else an object array with that of each batch.
    """
    seen: set[int] = set()
    batches: list[tuple[dict[str, Array], tuple[int, ...], list[int]]] = []
    for number, case in enumerate(cases):
        if case.signature == signature and case.group == REAL_SAMPLES:
            # A batch of fixed size begins again at the first samples where they end, and of few has some twice itself.
            new = []
            for row, sample in enumerate(case.rows):
                if sample not in seen:
                    seen.add(sample)
                    new.append(row)
            batches.append((references.outputs(folder, number), case.rows, new))
    found = {}
    for name in batches[0][0]:
        parts = [outputs[name] for outputs, _, _ in batches]
        if all(part.ndim and len(part) == len(rows) for part, (_, rows, _) in zip(parts, batches, strict=True)):
            found[name] = _joined([part[new] for part, (_, _, new) in zip(parts, batches, strict=True)])
        else:
            found[name] = np.array(parts[0]) if len(parts) == 1 else _apart(parts)
    return found


def _joined(parts: Sequence[Array]) -> Array:
    """The rows of ``parts``: one array where they have one shape, else an object array of each row's own."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    return _apart([row for part in parts for row in part])


def _apart(arrays: Sequence[Array]) -> Array:
    found = np.empty(len(arrays), dtype=object)
    for number, array in enumerate(arrays):
        found[number] = np.array(array)
    return found
