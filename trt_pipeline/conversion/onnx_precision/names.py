"""Find the names of the canonical TensorFlow graph again in the ONNX model that was made of it.

tf2onnx keeps the names of nodes and tensors, inside bodies too, and appends ``__12`` to helpers of its
own; ONNX Runtime's fusions keep the name of the last output. What is left without a name is found by
the weight it reads, or by the tensor whose values it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import Range, SignatureRanges
from trt_pipeline.conversion.canonical import root
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onnx_precision.bodies import Body, array, bodies_of
from trt_pipeline.model.nodes import node_name
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    import onnx
    from tensorflow.core.framework import node_def_pb2

# Their first output holds the values of their first input and no others: all of them, or some.
MOVING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "DepthToSpace",
                    "SpaceToDepth", "Expand", "Tile"})
_CHOOSING = frozenset({"Slice", "Split", "Gather", "GatherND", "MaxPool"})
_JOINING = frozenset({"Concat", "Pad", "Where"})
_TF_WEIGHTED = frozenset({"Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput",
                          "Conv3DBackpropInputV2", "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})
_TF_SUMS = frozenset({"BiasAdd", "Add", "AddV2", "Sub"})
# What a converter puts into the operation before.
_TF_FUSED = _TF_SUMS | {"Relu", "Relu6", "Identity", "Reshape", "Squeeze", "ExpandDims", "SpaceToBatchND",
                        "BatchToSpaceND", "Mul", "FusedBatchNormV3", "Transpose"}
_SUFFIX = re.compile(r"(__\d+|/MatMulAddFusion|_loop)$")
_FURTHEST = 64


class Names:
    """An ONNX model beside the canonical graph that it was exported from."""

    def __init__(self, graph: SignatureGraph, model: onnx.ModelProto) -> None:
        self.bodies = bodies_of(model)
        self._fed = graph.inputs | graph.outputs
        scopes = scopes_of(graph.graph_def)
        self._of_function = {s.function.signature.name: s for s in scopes if s.function is not None}
        self._inside: dict[int, list[Body]] = {}
        for body in self.bodies[1:]:
            self._inside.setdefault(id(body.owner), []).append(body)
        self._scopes: dict[int, Scope | None] = {id(self.bodies[0]): scopes[0]}
        for body in self.bodies[1:]:
            self._scopes[id(body)] = self._inner(body)
        self._arguments = {s.path: frozenset(a.name for a in s.function.signature.input_arg)
                           for s in scopes if s.function is not None}
        self._tf_readers: dict[str, dict[str, list[node_def_pb2.NodeDef]]] = {}
        self._known = {found for body in self.bodies for name in (*body.makers, *body.inputs)
                       if (found := self._exact(body, name)) is not None}

    def node(self, body: Body, node: onnx.NodeProto) -> str:
        """The scoped name of the TensorFlow operation that ``node`` of ``body`` is; of its own name where it is none.

        Of what fuses several operations it is the one with the weight, else the last.
        """
        found = self._operation(body, node)
        scope = self._scopes[id(body)]
        if found is not None:
            return found[0].node(found[1].name)
        return f"{scope.path if scope is not None else ''}{node.name or node.output[0]}"

    def tensor(self, body: Body, name: str) -> str | None:
        """The scoped name of the tensor that ``name``, read in ``body``, is."""
        found = self._place(body, name)
        return found[0].path + found[1] if found is not None else None

    def range(self, body: Body, name: str, ranges: SignatureRanges) -> Range | None:
        """What int8 is to cover of the tensor ``name`` read in ``body``; None where nothing is known of it."""
        return self._range(body, name, ranges, set())

    def extents(self, body: Body, node: onnx.NodeProto, ranges: SignatureRanges) -> Iterator[tuple[str, Range]]:
        """Name and extent of each TensorFlow tensor that ``node`` computes, those inside a fusion included."""
        for output in node.output:
            found = self._place(body, output) if output else None
            pending = [found] if found is not None else []
            seen: set[str] = set()
            while pending and len(seen) < _FURTHEST:
                scope, written = pending.pop()
                name = scope.path + written
                if name in seen or (name in self._known and seen):
                    continue
                seen.add(name)
                extent = ranges.extents.get(name)
                if extent is not None:
                    yield name, extent
                maker = scope.by_name.get(node_name(written))
                for source in maker.input if maker is not None else ():
                    above = scope.maker(source)
                    if above is not None and above.op != "Const" and not source.startswith("^"):
                        pending.append((scope, scope.tensor(source)[len(scope.path):]))

    def _inner(self, body: Body) -> Scope | None:
        assert body.parent is not None
        assert body.owner is not None
        around = self._scopes[id(body.parent)]
        if around is None:
            return None
        for name in _stems(body.owner.name):
            node = around.by_name.get(name)
            key = body.attribute
            if node is not None and key in node.attr and node.attr[key].HasField("func"):
                return self._of_function.get(node.attr[key].func.name)
        return None

    def _exact(self, body: Body, name: str) -> str | None:
        found = self._named(body, name)
        return found[0].path + found[1] if found is not None else None

    def _named(self, body: Body, name: str) -> tuple[Scope, str] | None:
        """Scope and ``node:index`` of the tensor of that very name."""
        home = body.home(name)
        scope = self._scopes[id(home)] if home is not None else None
        if home is None or scope is None:
            return None
        if home.parent is None:
            name = self._fed.get(name, name)
        scope, name = self._outlined(scope, name)
        maker, colon, index = name.rpartition(":")
        if not colon or not index.isdigit():
            maker, name = name, f"{name}:0"
        if maker in scope.by_name or maker in self._arguments.get(scope.path, ()):
            return scope, name
        return None

    def _place(self, body: Body, name: str) -> tuple[Scope, str] | None:
        found = self._named(body, name)
        home = body.home(name)
        if found is not None or home is None or name not in home.makers:
            return found
        maker = home.makers[name]
        if not home.weighted(maker):
            return None
        operation = self._operation(home, maker)
        if operation is None:
            return None
        scope, node = operation
        if len(maker.input) > 2 and maker.input[2]:
            after = self._readers_in(scope).get(node.name, [])
            node = after[0] if len(after) == 1 and after[0].op in _TF_SUMS else node
        return scope, f"{node.name}:0"

    def _range(self, body: Body, name: str, ranges: SignatureRanges, seen: set[str]) -> Range | None:
        home = body.home(name)
        if home is None or name in seen or len(seen) > _FURTHEST:
            return None
        seen.add(name)
        place = self._place(body, name)
        if place is not None and (found := _lookup(place, ranges)) is not None:
            return found
        maker = home.makers.get(name)
        if maker is not None and maker.op_type in _JOINING:
            return self._union(home, maker, ranges, seen)
        if maker is not None and (inner := self._inside.get(id(maker))):
            return self._returned(maker, inner, list(maker.output).index(name), ranges, seen)
        same = [maker.input[0]] if maker is not None and (
            maker.op_type in MOVING | _CHOOSING or _makes_float(maker)) else []
        same += [reader.output[0] for reader in home.readers.get(name, ())
                 if reader.op_type in MOVING and reader.input[0] == name]
        found_ranges = (self._range(home, other, ranges, seen) for other in same)
        return next((found for found in found_ranges if found is not None), None)

    def _union(self, body: Body, node: onnx.NodeProto, ranges: SignatureRanges, seen: set[str]) -> Range | None:
        sources = {"Concat": list(node.input), "Pad": [node.input[0], *node.input[2:3]],
                   "Where": list(node.input[1:])}[node.op_type]
        parts = [self._part(body, source, ranges, seen) for source in sources if source]
        if node.op_type == "Pad" and len(parts) == 1:
            parts.append((0.0, 0.0))
        return _around(parts)

    def _returned(self, node: onnx.NodeProto, inner: list[Body], number: int, ranges: SignatureRanges,
                  seen: set[str]) -> Range | None:
        """What a loop or branches return: what their bodies do, or, of a loop that never runs, what it began with."""
        loop = node.op_type == "Loop"  # the first that its body returns is its condition
        parts = [self._part(body, body.graph.output[number + loop].name, ranges, seen) for body in inner]
        if loop and number + 2 < len(node.input) and inner[0].parent is not None:
            parts.append(self._part(inner[0].parent, node.input[number + 2], ranges, seen))
        return _around(parts)

    def _part(self, body: Body, name: str, ranges: SignatureRanges, seen: set[str]) -> Range | None:
        constant = body.constant(name)
        if constant is None:
            return self._range(body, name, ranges, set(seen))
        if constant.data_location == constant.EXTERNAL or constant.data_type != constant.FLOAT:
            return None
        value = array(constant)
        return (float(value.min()), float(value.max())) if value.size else None

    def _operation(self, body: Body, node: onnx.NodeProto) -> tuple[Scope, node_def_pb2.NodeDef] | None:
        scope = self._scopes[id(body)]
        if scope is None:
            return None
        weighted = body.weighted(node)
        for name in (*_stems(node.output[0].removesuffix(":0")), *_stems(node.name)):
            own, inner = self._outlined(scope, self._fed.get(name, name).removesuffix(":0"))
            found = own.by_name.get(inner)
            if found is not None and weighted:
                found = _weighted_above(own, found)
            if found is not None:
                return own, found
        for source in node.input[1:] if weighted else ():
            own, name = self._outlined(scope, source)
            if (found := self._by_constant(own, name)) is not None:
                return own, found
        return None

    def _outlined(self, scope: Scope, name: str) -> tuple[Scope, str]:
        """Where ``name`` came from, and as what: conditions of loops and branches begin with their function's name."""
        functions = [function for function in self._of_function if name.startswith(f"{function}_")]
        if not functions:
            return scope, name
        function = max(functions, key=len)
        return self._of_function[function], name[len(function) + 1:]

    def _by_constant(self, scope: Scope, constant: str) -> node_def_pb2.NodeDef | None:
        """The weighted operation that reads a weight or a bias of this name, where that is but one."""
        for name in _stems(constant.removesuffix(":0")):
            named = scope.by_name.get(name)
            if named is None:
                continue
            if named.op in _TF_WEIGHTED:
                return named
            readers = self._readers_in(scope).get(name, [])
            while len(readers) == 1 and readers[0].op == "Identity":
                readers = self._readers_in(scope).get(readers[0].name, [])
            found = {above.name: above for reader in readers
                     if (above := _weighted_above(scope, reader)) is not None}
            if len(found) == 1:
                return next(iter(found.values()))
        return None

    def _readers_in(self, scope: Scope) -> dict[str, list[node_def_pb2.NodeDef]]:
        if scope.path not in self._tf_readers:
            found: dict[str, list[node_def_pb2.NodeDef]] = {}
            for node in scope.nodes:
                for source in node.input:
                    if not source.startswith("^"):
                        found.setdefault(node_name(source), []).append(node)
            self._tf_readers[scope.path] = found
        return self._tf_readers[scope.path]


def _around(parts: list[Range | None]) -> Range | None:
    """The range that holds all of ``parts``; None where one of them is unknown."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _stems(name: str) -> Iterator[str]:
    """``name``, then ``name`` without the suffixes that converters append, one after the other."""
    yield name
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
        yield name


def _lookup(place: tuple[Scope, str], ranges: SignatureRanges) -> Range | None:
    scope, written = place
    found = ranges.of(scope.path + written)
    if found is not None:
        return found
    maker, _, index = written.rpartition(":")
    return ranges.of(root(scope, scope.written(maker, int(index))))


def _makes_float(node: onnx.NodeProto) -> bool:
    """Whether ``node`` casts to a float type; what it casts from has a range only where it is a float too."""
    return node.op_type == "Cast" and node.attribute[0].i in (1, 10, 16)


def _weighted_above(scope: Scope, node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef | None:
    pending = [(node, 0)]
    while pending:
        node, depth = pending.pop(0)
        if node.op in _TF_WEIGHTED:
            return node
        if node.op in _TF_FUSED and depth < 6:
            for source in node.input:
                maker = scope.maker(source) if not source.startswith("^") else None
                if maker is not None:
                    pending.append((maker, depth + 1))
    return None
