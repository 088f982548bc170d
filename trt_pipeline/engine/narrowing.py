"""Integers at the edges of an engine that has int32 there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import InputError

Array = npt.NDArray[Any]
_INT32 = np.iinfo(np.int32)


def fed(name: str, given: Array, wanted: npt.DTypeLike) -> Array:
    """``given`` in the dtype that the engine has for input ``name``.

    Raises:
        InputError: it is another dtype than the engine's, or an integer that the engine's cannot hold.
    """
    dtype = np.dtype(wanted)
    if given.dtype == dtype:
        return given
    if dtype != np.int32 or given.dtype.kind not in "iu":
        raise InputError(f"input '{name}' is {given.dtype}, and the engine takes {dtype}")
    if given.size:
        low, high = int(given.min()), int(given.max())
        if low < _INT32.min or high > _INT32.max:
            beyond = low if low < _INT32.min else high
            raise InputError(f"input '{name}' holds {beyond}, which the engine cannot: it has int32 there")
    return given.astype(np.int32)


def answered(value: Array, own: str | None) -> Array:
    """An output as the model has it, in the dtype ``own``, where the engine has another."""
    return value if own is None else value.astype(own)
