"""The smallest and largest value of every tensor of an ONNX model: as measured, or bounded by what it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import Range, SignatureRanges
from trt_pipeline.conversion.onnx_precision.bodies import Body, array
from trt_pipeline.conversion.onnx_precision.names import Names

if TYPE_CHECKING:
    import onnx

_FURTHEST = 16
_INFINITE = (-math.inf, math.inf)


class Extents:
    """Extents by tensor, found when asked for."""

    def __init__(self, names: Names, ranges: SignatureRanges, folder: str) -> None:
        self.names, self.folder = names, folder
        # What int8 is to cover may be less than what was seen.
        self.seen = ranges.model_copy(update={"ranges": {}})
        self._found: dict[tuple[int, str], Range | None] = {}

    def of(self, body: Body, tensor: str, depth: int = 0) -> Range | None:
        """The extent of ``tensor`` read in ``body``; None where nothing is known."""
        home = body.home(tensor)
        if home is None or depth > _FURTHEST:
            return None
        key = (id(home), tensor)
        if key not in self._found:
            self._found[key] = None  # a tensor that is made of itself has no bound
            constant = home.constants.get(tensor)
            if constant is not None:
                self._found[key] = self._constant(constant)
            else:
                self._found[key] = self.names.range(home, tensor, self.seen) or self._bound(home, tensor, depth)
        return self._found[key]

    def _constant(self, constant: onnx.TensorProto) -> Range | None:
        if constant.data_type != constant.FLOAT:
            return None
        value = array(constant, self.folder)
        return (float(value.min()), float(value.max())) if value.size else None

    def _bound(self, body: Body, tensor: str, depth: int) -> Range | None:
        node = body.makers.get(tensor)
        if node is None or node.op_type not in _BOUNDS:
            return None
        inputs = [self.of(body, name, depth + 1) for name in node.input[:2] if name]
        known = [extent for extent in inputs if extent is not None]
        if node.op_type not in _OF_FIRST and len(known) < len(inputs):
            return None
        if not inputs or inputs[0] is None:
            return None
        if node.op_type == "Mul" and node.input[0] == node.input[1]:
            largest = max(abs(bound) for bound in inputs[0])
            return 0.0, largest * largest
        return _BOUNDS[node.op_type](*known)


def _corners(first: Range, second: Range) -> Range:
    products = [a * b for a in first for b in second]
    return (min(products), max(products)) if all(map(math.isfinite, products)) else _INFINITE


def _absolute(extent: Range, *_: Range) -> Range:
    return 0.0, max(abs(bound) for bound in extent)


def _root(extent: Range, *_: Range) -> Range:
    return math.sqrt(max(extent[0], 0.0)), math.sqrt(max(extent[1], 0.0))


_BOUNDS: dict[str, Callable[..., Range]] = {
    "Add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "Sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "Mul": _corners,
    "Neg": lambda a: (-a[1], -a[0]),
    "Abs": _absolute,
    "Sqrt": _root,
    "Relu": lambda a: (max(a[0], 0.0), max(a[1], 0.0)),
    "Max": lambda a, b=_INFINITE: (max(a[0], b[0]), max(a[1], b[1])) if b != _INFINITE else a,
    "Min": lambda a, b=_INFINITE: (min(a[0], b[0]), min(a[1], b[1])) if b != _INFINITE else a,
    "ReduceMean": lambda a, *_: a,
    "ReduceMax": lambda a, *_: a,
    "ReduceMin": lambda a, *_: a,
    "GlobalAveragePool": lambda a, *_: a,
    "AveragePool": lambda a, *_: a,
}
_OF_FIRST = frozenset({"ReduceMean", "ReduceMax", "ReduceMin", "GlobalAveragePool", "AveragePool"})
