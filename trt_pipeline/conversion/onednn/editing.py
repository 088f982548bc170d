"""Change one scope of a graph: add nodes, let a node become another, drop what nothing reads any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.model.nodes import data_types, node_name
from trt_pipeline.model.scoped import Scope

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2

Array = npt.NDArray[Any]
FLOAT, INT32, UINT8, INT8, QINT8, QUINT8, QINT32 = 1, 3, 4, 6, 11, 12, 13  # TensorFlow's DataType
_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int32): INT32}


@dataclass(frozen=True)
class EightBit:
    """A tensor in 8 bits. Code c stands for low + c * (high - low) / 255, signed ones for c * high / 127.

    ``written`` is how nodes of the scope write it. Signed ones have low = -high.
    """

    written: str
    signed: bool
    low: float
    high: float

    @property
    def type(self) -> int:
        """TensorFlow's DataType."""
        return QINT8 if self.signed else QUINT8


@dataclass
class Editor:
    """A scope while it is rewritten. The nodes as they were at first are what `readers` tells of.

    ``outputs`` are tensor names that must go on existing.
    """

    scope: Scope
    outputs: set[str]
    eight: dict[str, EightBit] = field(default_factory=dict)
    """8-bit forms that exist already, by the scoped name of the float tensor."""

    def __post_init__(self) -> None:
        self._readers: dict[str, list[node_def_pb2.NodeDef]] = defaultdict(list)
        self._numbers: dict[float, str] = {}
        self._scalars: dict[int, str] = {}
        self._integers: dict[tuple[int, ...], str] = {}
        self._sources = {node.name: [node_name(source) for source in node.input] for node in self.scope.nodes}
        read: set[str] = set()
        for node in self.scope.nodes:
            for source in node.input:
                read.add(node_name(source))
                if not source.startswith("^"):
                    self._readers[self.scope.tensor(source)].append(node)
        self._returned = {self.scope.tensor(source) for source in self._fetched()}
        ends = {node_name(source) for source in self._fetched()}
        if self.scope.function is not None:
            ends |= set(self.scope.function.control_ret.values())
        self._ends = ends | {node.name for node in self.scope.nodes
                             if node.name not in read or node.op == "Placeholder"}

    def _fetched(self) -> list[str]:
        return list(self.scope.function.ret.values()) if self.scope.function is not None else sorted(self.outputs)

    def key(self, written: str) -> str:
        """The scoped name of a tensor."""
        return self.scope.tensor(written)

    def first(self, node: node_def_pb2.NodeDef) -> str:
        """How the first output of ``node`` is written."""
        return self.scope.written(node.name)

    def readers(self, written: str) -> list[node_def_pb2.NodeDef]:
        """The nodes that read a tensor, once for each time."""
        return self._readers[self.key(written)]

    def returned(self, written: str) -> bool:
        """Whether the scope hands the tensor out."""
        return self.key(written) in self._returned

    def only_reader(self, node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef | None:
        """The one node that reads the first output of ``node``; None where it is not just one."""
        written = self.first(node)
        readers = self.readers(written)
        return readers[0] if len(readers) == 1 and not self.returned(written) else None

    def add(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; how its first output is written."""
        node = self._new(name)
        _fill(node, op, inputs, attributes)
        return self.first(node)

    def _new(self, name: str) -> node_def_pb2.NodeDef:
        unique, number = name, 0
        while unique in self.scope.by_name:
            number += 1
            unique = f"{name}_{number}"
        node = self.scope.nodes.add(name=unique)
        self.scope.by_name[unique] = node
        return node

    def become(self, node: node_def_pb2.NodeDef, op: str, inputs: list[str], **attributes: Any) -> None:
        """Make ``node`` another operation whose first output takes the place of its own; control edges stay."""
        before = self.first(node)
        controls = [source for source in node.input if source.startswith("^")]
        node.attr.clear()
        _fill(node, op, [*inputs, *controls], attributes)
        if (after := self.first(node)) != before:
            self.scope.redirect(before, after)

    def constant(self, name: str, value: Array, kind: int | None = None) -> str:
        """A Const of ``value``; ``kind`` where the DataType is not that of the array."""
        node = self._new(name)
        node.op = "Const"
        kind = kind or _TYPES[value.dtype]
        node.attr["dtype"].type = kind
        tensor = node.attr["value"].tensor
        tensor.dtype = kind
        tensor.tensor_shape.SetInParent()
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = np.ascontiguousarray(value).tobytes()
        return self.first(node)

    def number(self, value: float) -> str:
        """A float32 scalar; one Const for each value."""
        single = np.array(value, np.float32)
        if float(single) not in self._numbers:
            self._numbers[float(single)] = self.constant("int8/number", single)
        return self._numbers[float(single)]

    def integer(self, value: int) -> str:
        """An int32 scalar; one Const for each value."""
        if value not in self._scalars:
            self._scalars[value] = self.constant("int8/integer", np.array(value, np.int32))
        return self._scalars[value]

    def integers(self, values: Sequence[int]) -> str:
        """An int32 vector; one Const for each value."""
        key = tuple(values)
        if key not in self._integers:
            self._integers[key] = self.constant("int8/shape", np.array(key, np.int32))
        return self._integers[key]

    def pack(self, scalars: list[str], name: str) -> str:
        """An int32 vector of int32 scalars."""
        written = self.add("Pack", name, scalars, T=INT32)
        self.scope.by_name[node_name(written)].attr["N"].i = len(scalars)
        return written

    def size_of(self, written: str, axis: int, name: str) -> str:
        """The size of an axis of a tensor, an int32 scalar."""
        kind = self.type_of(written)
        shape = self.add("Shape", f"{name}/shape", [written], T=kind, out_type=INT32)
        ends = [self.integers([value]) for value in (axis, axis + 1, 1)]
        size = self.add("StridedSlice", name, [shape, *ends], T=INT32, Index=INT32)
        self.scope.by_name[node_name(size)].attr["shrink_axis_mask"].i = 1
        return size

    def type_of(self, written: str) -> int:
        """The DataType of a tensor."""
        maker = self.scope.maker(written)
        if maker is not None:
            return data_types(maker, "output_arg")[int(self.scope.tensor(written).rpartition(":")[2])]
        assert self.scope.function is not None
        return next(int(argument.type) for argument in self.scope.function.signature.input_arg
                    if argument.name == written)

    def rows_of(self, written: str, width: int, kind: int, name: str) -> str:
        """A tensor as (rows, ``width``), whatever its shape."""
        return self.add("Reshape", name, [written, self.integers([-1, width])], T=kind, Tshape=INT32)

    def ancestors(self, node: node_def_pb2.NodeDef) -> set[str]:
        """The names of the nodes that ``node`` depended on at first."""
        found: set[str] = set()
        pending = list(self._sources[node.name])
        while pending:
            name = pending.pop()
            if name not in found and name in self._sources:
                found.add(name)
                pending += self._sources[name]
        return found

    def tidy(self) -> None:
        """Drop the nodes that were read and no longer are."""
        alive: set[str] = set()
        pending = list(self._ends)
        while pending:
            name = pending.pop()
            if name in alive or name not in self.scope.by_name:
                continue
            alive.add(name)
            pending += [node_name(source) for source in self.scope.by_name[name].input]
        for index in reversed(range(len(self.scope.nodes))):
            if self.scope.nodes[index].name not in alive:
                del self.scope.nodes[index]


def _fill(node: node_def_pb2.NodeDef, op: str, inputs: list[str], attributes: dict[str, Any]) -> None:
    node.op = op
    del node.input[:]
    node.input.extend(inputs)
    for key, value in attributes.items():
        if isinstance(value, bool):
            node.attr[key].b = value
        elif isinstance(value, int):
            node.attr[key].type = value
        elif isinstance(value, float):
            node.attr[key].f = value
        elif isinstance(value, str):
            node.attr[key].s = value.encode()
        elif isinstance(value, list):
            node.attr[key].list.i.extend(value)
        else:
            node.attr[key].CopyFrom(value)
