"""Requests of real data that Triton runs before a model counts as ready: files beside its versions.

Triton repeats one row to the size of a batch, so of each request the first row is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from trt_pipeline.model.contract import SignatureContract

Array = npt.NDArray[Any]
Request = Mapping[str, Array]
"""Inputs by name, batch axis included where there is one."""
FOLDER = "warmup"
"""Where Triton looks for the data, below the model's folder."""


@dataclass(frozen=True)
class WarmUp:
    """One request; ``rows`` of equal data are sent at once, of a model that is not batched one."""

    number: int
    rows: int
    shapes: dict[str, tuple[int, ...]]
    """Input -> its shape, without the batch axis where Triton batches."""
    data: dict[str, bytes]
    """Input -> its elements as Triton's protocol has them."""

    def file(self, name: str) -> str:
        """The file of input ``name``, in `FOLDER`."""
        return f"{self.number}-{quote(name, safe='')}"


def of_requests(requests: Sequence[Request], contract: SignatureContract, most: int) -> Iterator[WarmUp]:
    """A warm-up for each request that Triton can be given: with elements, and of dtypes that numpy has.

    Args:
        most: the largest batch that Triton forms; 0 where it forms none.
    """
    for number, request in enumerate(requests):
        arrays = {name: np.asarray(request[name]) for name in contract.inputs if name in request}
        whole = 0 < len(contract.inputs) == len(arrays) and all(value.size for value in arrays.values())
        if not whole or any(tensor.dtype == "bfloat16" for tensor in contract.inputs.values()):
            continue
        rows = min(most, *(len(value) for value in arrays.values())) if most else 1
        parts = {name: value[0] if most else value for name, value in arrays.items()}
        yield WarmUp(number=number, rows=rows, shapes={name: np.shape(part) for name, part in parts.items()},
                     data={name: _elements(part, contract.inputs[name].dtype) for name, part in parts.items()})


def files(warm_ups: Sequence[WarmUp]) -> dict[str, bytes]:
    """Path below the model's folder -> content."""
    return {f"{FOLDER}/{one.file(name)}": data for one in warm_ups for name, data in one.data.items()}


def _elements(value: Any, dtype: str) -> bytes:
    if dtype != "string":
        return np.asarray(value, np.dtype(dtype).newbyteorder("<")).tobytes()
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in np.ravel(np.asarray(value, object))]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
