"""Numbers in 8 bits: how a range becomes a scale and a zero point, and a weight integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trt_pipeline.calibration.ranges import Range
from trt_pipeline.environment import cpu_flags

Array = npt.NDArray[Any]
Style = Literal["cpu", "tensorrt"]
# Any scale does for a tensor that is always 0.
_NO_RANGE = 1.0
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Affine:
    """``value = (integer - zero_point) * scale``, unsigned where ``signed`` is False."""

    scale: float
    zero_point: int
    signed: bool

    @property
    def kind(self) -> type[np.signedinteger[Any]] | type[np.unsignedinteger[Any]]:
        """The integers' type."""
        return np.int8 if self.signed else np.uint8

    @property
    def bounds(self) -> Range:
        """The smallest and the largest value that can be said."""
        low, high = (-128, 127) if self.signed else (0, 255)
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale


def activation(found: Range, style: Style) -> Affine:
    """How a tensor of this range is said: U8 that holds 0 exactly, for the CPU's kernels, or symmetric S8."""
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    if style == "tensorrt":
        largest = max(-low, high)
        return Affine(_scale(largest / 127), 0, signed=True)
    scale = _scale((high - low) / 255)
    return Affine(scale, int(np.clip(round(-low / scale), 0, 255)), signed=False)


def weight(value: Array, axis: int | None, largest: int, least: Array | None = None) -> tuple[Array, Array]:
    """``value`` as symmetric S8 integers of at most ``largest``, and the scale(s): one a channel of ``axis``, or one.

    Args:
        least: the smallest scale that each channel may have.
    """
    others = tuple(n for n in range(value.ndim) if n != axis) if axis is not None else None
    peak = np.max(np.abs(value), axis=others, keepdims=True) if value.size else np.ones([1] * value.ndim)
    scale = np.where(peak > 0, peak / largest, _NO_RANGE).astype(np.float32)
    scale = np.maximum(scale, _SMALLEST_SCALE)
    if least is not None:
        scale = np.maximum(scale, least.reshape(scale.shape).astype(np.float32))
    integers = np.clip(np.rint(value / scale), -largest, largest).astype(np.int8)
    return integers, scale.reshape(-1) if axis is not None else scale.reshape(())


def bias(value: Array, scale: Array) -> Array:
    """``value`` in int32 steps of ``scale``."""
    limits = np.iinfo(np.int32)
    steps: Array = np.clip(np.rint(value.astype(np.float64) / scale), limits.min, limits.max).astype(np.int32)
    return steps


def smallest_weight_scale(bias_value: Array, activation_scale: float) -> Array:
    """The weight scales below which a bias would not fit into int32."""
    least: Array = np.abs(bias_value.astype(np.float64)) / (activation_scale * 2.0**30)
    return least


def largest_weight(style: Style) -> int:
    """The largest integer of a weight. Without VNNI the sum of two U8 x S8 products overflows 16 bits beyond 63."""
    return 63 if style == "cpu" and not has_vnni() else 127


def has_vnni() -> bool:
    """Whether this CPU multiplies U8 by S8 without saturating."""
    return not cpu_flags().isdisjoint({"avx512_vnni", "avx_vnni", "asimddp"})


def _scale(step: float) -> float:
    """The nearest float32 to ``step``, which is what the model will hold."""
    return float(np.float32(max(step, _SMALLEST_SCALE))) if step > 0 else _NO_RANGE
