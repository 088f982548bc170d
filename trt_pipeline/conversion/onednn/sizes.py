"""Which sizes of a scope's tensors are the same, whatever they turn out to be when it runs.

TensorFlow's own inference knows numbers only: of a Tensordot over (N, T, 128) with free N and T it says that two
sizes are unknown. Here an unknown size has a name, the first tensor that has it, and is followed through shape
arithmetic as well as through tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.onednn.shapes import Sizes
from trt_pipeline.model.nodes import node_name
from trt_pipeline.model.scoped import Scope

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2


class Unknown(NamedTuple):
    """The size of the axis of a tensor, as nodes of its scope write it."""

    tensor: str
    axis: int


class _Number(NamedTuple):
    """The value of an integer scalar, plus a constant."""

    tensor: str
    plus: int


Size = int | Unknown
Shape = tuple[Size, ...]
_Value = tuple[Size | _Number | None, ...]
_INTEGERS = (3, 9)  # TensorFlow's DataType: int32 and int64
_LONGEST = 8
_SAME_SHAPE = frozenset({
    "Identity", "Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Tanh", "Sigmoid", "Erf", "Exp", "Log", "Neg", "Abs",
    "Sqrt", "Rsqrt", "Square", "Softmax", "LogSoftmax", "BiasAdd", "Cast", "LogicalNot", "StopGradient", "ZerosLike"})
_BROADCAST = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "SquaredDifference", "Maximum", "Minimum", "Pow",
                        "LogicalOr", "LogicalAnd", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less"})
_REDUCTIONS = frozenset({"Mean", "Sum", "Max", "Min", "Prod", "Any", "All"})


class SizesOf:
    """The shapes of the first outputs of a scope's nodes, and which unknown sizes are surely zero or one.

    Two equal `Unknown` are equal sizes in every run that does not fail. One names a tensor that comes before all
    others that have it, or the tensor itself.
    """

    def __init__(self, scope: Scope, known: Mapping[str, Sizes]) -> None:
        self.at_most_one: set[Unknown] = set()
        self._scope, self._known = scope, known
        self._shapes: dict[str, Shape | None] = {}
        self._values: dict[str, _Value | None] = {}
        for node in in_order(scope):
            written = scope.written(node.name) if node.op not in ("NoOp", "Assert") else ""
            if written:
                self._values[written] = self._value(node, written)
                self._shapes[written] = self._settled(written, self._rule(node, written))

    def of(self, written: str) -> Shape | None:
        """The shape of a tensor; None where its rank is not known."""
        if written not in self._shapes:
            self._shapes[written] = self._settled(written, None)
        return self._shapes[written]

    def _settled(self, written: str, shape: Sequence[Size | None] | None) -> Shape | None:
        """``shape``, or what TensorFlow knows where that is more, with names for what is still unknown."""
        known = self._known.get(self._scope.tensor(written))
        if known is None and shape is None:
            return None
        better = known if known is not None else shape
        assert better is not None
        other = shape if shape is not None and len(shape) == len(better) else better
        return tuple(a if a is not None else b if b is not None else Unknown(written, axis)
                     for axis, (a, b) in enumerate(zip(better, other, strict=True)))

    def _rule(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        if node.op in _SAME_SHAPE:
            return self.of(node.input[0])
        if node.op in _BROADCAST:
            return _broadcast(self.of(node.input[0]), self.of(node.input[1]))
        if node.op in _REDUCTIONS:
            return self._reduced(node)
        rule: Callable[[node_def_pb2.NodeDef, str], Sequence[Size | None] | None] | None = {
            "Reshape": self._reshaped, "Transpose": self._transposed, "MatMul": self._product,
            "BatchMatMulV2": self._product, "ConcatV2": self._joined, "GatherV2": self._gathered,
            "StridedSlice": self._sliced}.get(node.op)
        return rule(node, written) if rule is not None else None

    def _reduced(self, node: node_def_pb2.NodeDef) -> Sequence[Size | None] | None:
        shape, axes = self.of(node.input[0]), self._constant(node.input[1])
        if shape is None or axes is None:
            return None
        gone = {axis % len(shape) for axis in axes}
        if _has(node, "keep_dims"):
            return [1 if axis in gone else size for axis, size in enumerate(shape)]
        return [size for axis, size in enumerate(shape) if axis not in gone]

    def _reshaped(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        target, before = self._values.get(node.input[1]), self.of(node.input[0])
        if target is None:
            return None
        sizes = [None if isinstance(size, _Number) or size == -1 else size for size in target]
        if before is not None and sizes.count(None) == 1 and -1 in target:
            sizes[sizes.index(None)] = _quotient(before, [size for size in sizes if size is not None])
        return sizes

    def _transposed(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        shape, order = self.of(node.input[0]), self._constant(node.input[1])
        return None if shape is None or order is None else [shape[axis] for axis in order]

    def _product(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        one, other = self.of(node.input[0]), self.of(node.input[1])
        if one is None or other is None or min(len(one), len(other)) < 2:
            return None
        batch = _broadcast(one[:-2], other[:-2])
        assert batch is not None
        across, down = _has(node, "transpose_a", "adj_x"), _has(node, "transpose_b", "adj_y")
        return [*batch, one[-1 if across else -2], other[-2 if down else -1]]

    def _joined(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        *parts, axis_of = [source for source in node.input if not source.startswith("^")]
        axis, shapes = self._constant(axis_of), [self.of(part) for part in parts]
        first = shapes[0]
        if axis is None or first is None:
            return None
        joined: list[Size | None] = list(first)
        joined[axis[0]] = None
        return joined

    def _gathered(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        data, indices = self.of(node.input[0]), self.of(node.input[1])
        if data is None or indices is None or self._constant(node.input[2]) != [0] or _has(node, "batch_dims"):
            return None
        return [*indices, *data[1:]]

    def _sliced(self, node: node_def_pb2.NodeDef, written: str) -> Sequence[Size | None] | None:
        """Nothing is known of a slice, but that one from i to i + 1 has at most one row."""
        begin, end, step = (self._values.get(source) for source in node.input[1:4])
        if begin and end and step == (1,) and not _has(node, *(key for key in node.attr if "mask" in key)):
            low, high = begin[0], end[0]
            if isinstance(low, _Number) and high == _Number(low.tensor, low.plus + 1):
                self.at_most_one.add(Unknown(written, 0))
        return None

    def _value(self, node: node_def_pb2.NodeDef, written: str) -> _Value | None:
        """The elements of a short vector of integers, or the one of a scalar."""
        if node.op == "Const":
            constant = self._constant(written)
            return tuple(constant) if constant is not None else None
        rule: Callable[[node_def_pb2.NodeDef], _Value | None] | None = {
            "Shape": lambda node: self.of(node.input[0]), "ExpandDims": lambda node: self._scalar(node.input[0]),
            "Identity": lambda node: self._values.get(node.input[0]), "Cast": self._cast, "Pack": self._packed,
            "ConcatV2": self._joined_values, "GatherV2": self._gathered_values, "StridedSlice": self._sliced_values,
            "Add": self._summed, "AddV2": self._summed}.get(node.op)
        return rule(node) if rule is not None else None

    def _cast(self, node: node_def_pb2.NodeDef) -> _Value | None:
        return self._values.get(node.input[0]) if node.attr["DstT"].type in _INTEGERS else None

    def _packed(self, node: node_def_pb2.NodeDef) -> _Value | None:
        parts = [self._scalar(source) for source in node.input if not source.startswith("^")]
        return tuple(part[0] if part else None for part in parts)

    def _joined_values(self, node: node_def_pb2.NodeDef) -> _Value | None:
        parts = [self._vector(source) for source in node.input if not source.startswith("^")][:-1]
        return None if None in parts else tuple(size for part in parts if part is not None for size in part)

    def _gathered_values(self, node: node_def_pb2.NodeDef) -> _Value | None:
        elements, taken = self._vector(node.input[0]), self._constant(node.input[1])
        return None if elements is None or taken is None else tuple(elements[index] for index in taken)

    def _summed(self, node: node_def_pb2.NodeDef) -> _Value | None:
        """One number plus a constant one."""
        one, other = self._scalar(node.input[0]), self._scalar(node.input[1])
        if not one or not other:
            return None
        number, plus = (other[0], one[0]) if isinstance(one[0], int) else (one[0], other[0])
        if isinstance(number, _Number) and isinstance(plus, int):
            return (_Number(number.tensor, number.plus + plus),)
        return None

    def _vector(self, written: str) -> _Value | None:
        shape = self.of(written)
        return self._values.get(written) if shape is not None and len(shape) == 1 else None

    def _scalar(self, written: str) -> _Value | None:
        if self.of(written) != ():
            return None
        return self._values.get(written) or (_Number(written, 0),)

    def _sliced_values(self, node: node_def_pb2.NodeDef) -> _Value | None:
        elements = self._vector(node.input[0])
        begin, end, step = (self._constant(source) for source in node.input[1:4])
        if elements is None or begin is None or end is None or step != [1] or _has(node, "new_axis_mask"):
            return None
        if _has(node, "shrink_axis_mask"):
            return (elements[begin[0]],)
        return elements[None if _has(node, "begin_mask") else begin[0]:None if _has(node, "end_mask") else end[0]]

    def _constant(self, written: str) -> list[int] | None:
        """A constant integer or short vector of integers."""
        maker = self._scope.maker(written)
        if maker is not None and maker.op == "Const" and maker.attr["dtype"].type not in _INTEGERS:
            return None
        value = canonical.constant(self._scope, written)
        if value is None or value.dtype.kind != "i" or value.ndim > 1 or value.size > _LONGEST:
            return None
        return [int(element) for element in value.reshape(-1)]


def in_order(scope: Scope) -> list[node_def_pb2.NodeDef]:
    """The scope's nodes, each after those that it reads."""
    found: list[node_def_pb2.NodeDef] = []
    seen: set[str] = set()
    for start in scope.nodes:
        pending = [(start, False)]
        while pending:
            node, ready = pending.pop()
            if ready:
                found.append(node)
            elif node.name not in seen:
                seen.add(node.name)
                pending.append((node, True))
                pending += [(scope.by_name[name], False) for name in map(node_name, node.input)
                            if name in scope.by_name]
    return found


def _has(node: node_def_pb2.NodeDef, *keys: str) -> bool:
    """Whether one of these attributes is there and neither false nor zero; to read one that is not would make it."""
    return any(key in node.attr and (node.attr[key].b or node.attr[key].i) for key in keys)


def _broadcast(one: Shape | None, other: Shape | None) -> Sequence[Size | None] | None:
    if one is None or other is None:
        return None
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    return [a if b in (a, 1) else b if a == 1 else
            a if isinstance(a, int) else b if isinstance(b, int) else None for a, b in pairs]


def _quotient(whole: Shape, parts: Sequence[Size]) -> Size | None:
    """The product of ``whole`` over that of ``parts``, where it is a number or one of the unknown sizes."""
    unknown = Counter(size for size in whole if isinstance(size, Unknown))
    unknown.subtract(size for size in parts if isinstance(size, Unknown))
    over = prod(size for size in parts if isinstance(size, int))
    left = [size for size, times in unknown.items() if times]
    if over == 0 or any(times not in (0, 1) for times in unknown.values()) or len(left) > 1:
        return None
    number = prod(size for size in whole if isinstance(size, int)) / over
    if not left:
        return int(number) if number == int(number) else None
    return left[0] if number == 1 else None
