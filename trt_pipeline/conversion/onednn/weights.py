"""Weights as symmetric 8-bit integers, and what that costs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_LARGEST = 127


def quantize(weight: Array, per_channel: bool) -> tuple[Array, Array]:
    """``weight`` as int8 in [-127, 127], and what 127 stands for.

    Args:
        weight: float32 (..., channels).
        per_channel: one scale for each channel, or one for all.

    Returns:
        int8 of the same shape; float32 () or (channels,). A channel of zeros gets 1.
    """
    axes = tuple(range(weight.ndim - 1)) if per_channel else None
    limit = np.abs(weight).max(axis=axes).astype(np.float32)
    limit = np.where(limit > np.finfo(np.float32).tiny, limit, np.float32(1))
    rounded = np.rint(weight * (np.float64(_LARGEST) / limit))
    return np.clip(rounded, -_LARGEST, _LARGEST).astype(np.int8), limit


def gain_per_channel(weight: Array) -> float:
    """How many times less squared error, relative to each channel's own power, one scale a channel makes.

    Rounding errs alike everywhere, by step^2 / 12; what it harms is a channel whose weights are
    small beside the largest of all.
    """
    power = np.square(weight, dtype=np.float64).mean(axis=0)
    limit = np.abs(weight).max(axis=0).astype(np.float64)
    used = power > 0
    if not used.any():
        return 1.0
    together = (limit[used].max() ** 2 / power[used]).mean()
    apart = (limit[used] ** 2 / power[used]).mean()
    return float(together / apart)
