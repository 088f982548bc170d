"""The two 16-bit floats: what they hold, and what becomes of a float32 in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Beyond it, half precision rounds to infinity; bfloat16 reaches as far as float32.
LARGEST = {"fp16": 65504.0, "bf16": 3.3895e38}
# The smallest number that is not zero.
SMALLEST = {"fp16": 2.0**-24, "bf16": 2.0**-133}


def rounded(value: Array, precision: str) -> Array:
    """Float32 ``value`` as fp16 or bf16 holds it: nearest, ties to even, infinity beyond the largest number."""
    if precision == "fp16":
        with np.errstate(over="ignore"):
            return value.astype(np.float16).astype(np.float32)
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    # Adding just under half of the last place that stays, plus that place's own bit, breaks ties to even.
    kept = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.asarray(np.where(np.isnan(value), value, kept.view(np.float32)), np.float32)
