"""What int8 does to numbers, in numpy: the definition that the emulation follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2

Array = npt.NDArray[Any]


def covered(low: float, high: float, symmetric: bool = False) -> tuple[float, float]:
    """The range that 8 bits are spread over: ``low`` to ``high``, widened to contain zero."""
    if symmetric:
        largest = max(abs(low), abs(high))
        return -largest, largest
    return min(low, 0.0), max(high, 0.0)


def quantized(value: Array, low: float, high: float, symmetric: bool = False) -> Array:
    """Float32 ``value`` through 8 bits and back: U8 over ``[low, high]``, or S8 (-127 to 127) where symmetric."""
    low, high = covered(low, high, symmetric)
    scale = (high - low) / (254 if symmetric else 255)
    if scale == 0:
        return np.zeros_like(value)
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(value / np.float32(scale)) + zero, 0, 254 if symmetric else 255) - zero
    return np.asarray(steps * scale, np.float32)


def quantized_weight(weight: Array, channels: tuple[int, ...]) -> Array:
    """A weight through S8 (-127 to 127) and back, with a scale for each index of the axes ``channels``."""
    others = tuple(axis for axis in range(weight.ndim) if axis not in channels)
    largest = np.abs(weight).max(axis=others, keepdims=True, initial=0.0)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.asarray(np.clip(np.rint(weight / scale), -127, 127) * scale, np.float32)


def channel_axes(node: node_def_pb2.NodeDef, position: int, rank: int) -> tuple[int, ...]:
    """The axes of the constant input ``position`` of ``node`` along which its output's channels lie.

    Empty where the operation is not one that has a weight: one scale then holds for all of it.
    """
    axes: tuple[int, ...] = ()
    if node.op in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        side = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
        transposed = node.attr[side[position]].b
        axes = (rank - 2,) if (position == 0) != transposed else (rank - 1,)
    elif node.op in ("Conv2D", "Conv3D"):
        axes = (rank - 1,)
    elif node.op == "DepthwiseConv2dNative":
        axes = (rank - 2, rank - 1)
    elif node.op in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        axes = (rank - 2,)
    elif node.op == "Einsum":
        inputs, _, result = node.attr["equation"].s.decode().replace(" ", "").partition("->")
        labels = inputs.split(",")
        if "..." not in labels[position]:
            shared = set("".join(label for number, label in enumerate(labels) if number != position))
            axes = tuple(axis for axis, label in enumerate(labels[position]) if label in result and label not in shared)
    return axes
