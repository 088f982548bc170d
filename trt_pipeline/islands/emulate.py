"""Run a canonical graph in float32 with the arithmetic of a lower precision, node by node switchable.

Each emulated node reads a switch, a variable, each time it runs, in loops and branches too. So one
graph, built once, answers for every set of raised nodes.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import canonical, halves
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.islands import arithmetic
from trt_pipeline.model.nodes import data_types, make_stateful, node_name, with_functions_renamed
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
_DT_FLOAT, _DT_BOOL, _DT_HALF, _DT_BFLOAT16 = 1, 10, 19, 14
_LOW_TYPES = {"fp16": _DT_HALF, "bf16": _DT_BFLOAT16}
_CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D", "Conv2DBackpropInput",
                           "Conv3DBackpropInputV2"})
# What a quantizing backend computes together with the convolution before it, and then quantizes once.
_FUSED_AFTER = frozenset({"BiasAdd", "Relu", "Relu6"})
# These only move or choose values, or run other nodes: there is nothing in them to compute in another precision.
_NOT_COMPUTING = frozenset({
    "Const", "Placeholder", "PlaceholderWithDefault", "Identity", "IdentityN", "Reshape", "Transpose", "Squeeze",
    "ExpandDims", "Pack", "Unpack", "ConcatV2", "GatherV2", "Gather", "GatherNd", "ResourceGather", "Split", "SplitV",
    "StridedSlice", "Slice", "Pad", "PadV2", "Tile", "BroadcastTo", "DepthToSpace", "SpaceToDepth", "SelectV2",
    "Select", "Shape", "Rank", "Size", "StopGradient", "PreventGradient", "EnsureShape", "Snapshot", "ZerosLike",
    "OnesLike", "Fill", "Cast", "ReverseV2", "ScatterNd", "InvertPermutation", "NoOp", "Assert", "CheckNumerics",
    "CheckNumericsV2", "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase", "PartitionedCall",
    "StatefulPartitionedCall", "BatchToSpaceND", "SpaceToBatchND", "VarHandleOp", "ReadVariableOp"})
_NUMBERS = itertools.count()


def computing_nodes(graph: SignatureGraph) -> tuple[str, ...]:
    """Every node of a canonical graph that computes float32 numbers, bodies included, by scoped name."""
    return tuple(scope.node(node.name) for scope in scopes_of(graph.graph_def) for node in scope.nodes
                 if node.op not in _NOT_COMPUTING and any(kind == _DT_FLOAT for kind in data_types(node, "output_arg")))


class Emulation:
    """A signature whose ``nodes`` compute as the candidate's precision does, save those that a call raises.

    int8: a node's activations go through 8 bits over the range of the tensor that they are
    (`canonical.root`), its weight through S8 per output channel; it sums in float32. Activations that
    calibration never saw stay as they are.
    fp16, bf16: a node's inputs, constants and results are rounded; between, it computes in float32.
    """

    def __init__(self, graph: SignatureGraph, ranges: SignatureRanges, precision: str, nodes: Collection[str], *,
                 outputs: bool = False, symmetric: bool = False, per_channel: bool = True) -> None:
        """
        Args:
            graph: a canonical graph (`conversion.canonical`); it is not changed.
            ranges: what calibration found of it; fp16 and bf16 need none.
            precision: "int8", "fp16" or "bf16".
            nodes: scoped names of the nodes to emulate.
            outputs: int8: results of convolutions, with the bias and ReLU after them, go through 8 bits too,
                where their range is known and they are no output of the signature.
            symmetric: int8: activations are S8 around zero, as TensorRT's are, instead of U8.
            per_channel: int8: weights have a scale for each output channel, where they have such; if not, one.

        Raises:
            KeyError: the graph has no such node.
        """
        from tensorflow.python.eager import wrap_function

        self.nodes = tuple(nodes)
        self.precision, self.symmetric, self.per_channel = precision, symmetric, per_channel
        self._name = f"trt_pipeline_islands_{next(_NUMBERS)}"
        self._lock = threading.Lock()
        self._handles: list[Any] = []
        # Node -> the variables it reads, each with its value when the node is low and when it is raised.
        self._variables: dict[str, list[tuple[Any, Any, Any]]] = defaultdict(list)
        self._is_raised = dict.fromkeys(self.nodes, False)
        # At the end of the process TensorFlow may be gone before the variables are.
        weakref.finalize(self, _destroy, self._handles).atexit = False
        graph_def = with_functions_renamed(graph.graph_def, f"{self._name}_")
        fetched = {name: name for name in graph.output_tensors}
        self._insert(graph_def, ranges, fetched, outputs)
        self._inputs, self._outputs = list(graph.inputs), list(graph.outputs)
        self._function = wrap_function.function_from_graph_def(
            graph_def, list(graph.inputs.values()), [fetched[name] for name in graph.output_tensors], graph.resources)

    def __call__(self, feeds: Feeds, raised: Collection[str] = frozenset()) -> dict[str, Array]:
        """The outputs by name, for inputs by name, with the nodes ``raised`` in float32."""
        import tensorflow as tf

        with self._lock:
            for node, was in self._is_raised.items():
                if (now := node in raised) != was:
                    for handle, low, high in self._variables[node]:
                        tf.raw_ops.AssignVariableOp(resource=handle, value=high if now else low)
                    self._is_raised[node] = now
            values = self._function(*(tf.constant(feeds[name]) for name in self._inputs))
            return {name: value.numpy() for name, value in zip(self._outputs, values, strict=True)}

    def _insert(self, graph_def: graph_pb2.GraphDef, ranges: SignatureRanges, fetched: dict[str, str],
                outputs: bool) -> None:
        wanted, found = set(self.nodes), set()
        for scope in scopes_of(graph_def):
            here = [node for node in scope.nodes if scope.node(node.name) in wanted]
            found |= {scope.node(node.name) for node in here}
            if here:
                _Rewriting(self, scope, ranges, fetched).run(here, outputs)
        if missing := wanted - found:
            raise KeyError(f"the graph has no node {min(missing)}")
        make_stateful(graph_def)

    def variable(self, node: str, low: Array, raised: Array) -> str:
        """The shared name of a new variable that holds ``low`` until ``node`` is raised."""
        import tensorflow as tf

        name = f"{self._name}_{len(self._handles)}"
        with tf.device("/CPU:0"):
            handle = tf.raw_ops.VarHandleOp(shared_name=name, dtype=low.dtype, shape=low.shape)
            values = tf.constant(low), tf.constant(raised)
            tf.raw_ops.AssignVariableOp(resource=handle, value=values[0])
        self._handles.append(handle)
        self._variables[node].append((handle, *values))
        return name


class _Rewriting:
    """The insertion of switched arithmetic into one scope."""

    def __init__(self, emulation: Emulation, scope: Scope, ranges: SignatureRanges, fetched: dict[str, str]) -> None:
        self._emulation, self._scope, self._ranges, self._fetched = emulation, scope, ranges, fetched
        self._fake = emulation.precision == "int8"
        self._added = 0
        self._lowered: dict[str, str] = {}
        self._originals = list(scope.nodes)
        self._readers: dict[str, list[tuple[Any, int]]] = defaultdict(list)
        returned = fetched if scope.function is None else scope.function.ret.values()
        self._returned = {canonical.root(scope, source) for source in returned}
        for node in self._originals:
            for position, source in enumerate(node.input):
                self._readers[self._plain(source)].append((node, position))

    def run(self, nodes: list[node_def_pb2.NodeDef], outputs: bool) -> None:
        """Emulate ``nodes``."""
        # Ranges and constants are looked up by what stands before an edge, so before any edge is changed.
        edges = [(node, position, canonical.root(self._scope, node.input[position]),
                  canonical.constant(self._scope, node.input[position]))
                 for node in nodes for position in _float_inputs(node)]
        results = [(node, written, name) for node in nodes for written, name in self._results(node, outputs)]
        switches = {node.name: self._switch(node) for node in nodes}
        for node, written, tensor in results:
            if moved := self._low(written, tensor, switches[node.name]):
                self._redirect(written, moved)
        for node, position, tensor, constant in edges:
            if constant is not None:
                node.input[position] = self._weight(node, position, constant)
            elif moved := self._low(node.input[position], tensor, switches[node.name]):
                node.input[position] = moved
        self._drop_unread_constants()

    def _results(self, node: node_def_pb2.NodeDef, outputs: bool) -> Iterator[tuple[str, str]]:
        """The tensors that go through the low precision after ``node``: as written, and scoped."""
        scope = self._scope
        if not self._fake:
            for index, kind in enumerate(data_types(node, "output_arg")):
                if kind == _DT_FLOAT:
                    written = scope.written(node.name, index)
                    yield written, scope.tensor(written)
        elif outputs and node.op in _CONVOLUTIONS:
            written = scope.written(node.name)
            while True:
                readers = self._readers[self._plain(written)]
                if len(readers) != 1 or readers[0][0].op not in _FUSED_AFTER:
                    break
                written = scope.written(readers[0][0].name)
            tensor = scope.tensor(written)
            if tensor not in self._returned and self._ranges.of(tensor) is not None:
                yield written, tensor

    def _low(self, written: str, tensor: str, switch: str) -> str:
        """``written`` as the low precision has it while ``switch`` is on; empty where nothing would change it."""
        if self._fake and self._ranges.of(tensor) is None:
            return ""
        # Several readers of one tensor share its low form, and have a switch each.
        if written not in self._lowered:
            self._lowered[written] = self._eight_bits(written, tensor) if self._fake else self._half(written)
        # The first version of Select, unlike the second, copies where the condition is one number.
        chosen = self._node("Select", [switch, self._lowered[written], written], T=_DT_FLOAT)
        return self._scope.written(chosen.name)

    def _eight_bits(self, written: str, tensor: str) -> str:
        found = self._ranges.of(tensor) or (0.0, 0.0)
        bounds = arithmetic.covered(*found, symmetric=self._emulation.symmetric)
        node = self._node("FakeQuantWithMinMaxVars",
                          [written, *(self._scope.add_constant(self._name(), np.float32(bound)) for bound in bounds)])
        node.attr["num_bits"].i = 8
        node.attr["narrow_range"].b = self._emulation.symmetric
        return self._scope.written(node.name)

    def _half(self, written: str) -> str:
        kind = _LOW_TYPES[self._emulation.precision]
        there = self._node("Cast", [written], SrcT=_DT_FLOAT, DstT=kind)
        back = self._node("Cast", [self._scope.written(there.name)], SrcT=kind, DstT=_DT_FLOAT)
        return self._scope.written(back.name)

    def _weight(self, node: node_def_pb2.NodeDef, position: int, value: Array) -> str:
        if self._fake:
            axes = arithmetic.channel_axes(node, position, value.ndim)
            low = arithmetic.quantized_weight(value, axes if self._emulation.per_channel else ()) if axes else value
        else:
            low = halves.rounded(value, self._emulation.precision)
        return self._read(self._scope.node(node.name), low, value, _DT_FLOAT)

    def _switch(self, node: node_def_pb2.NodeDef) -> str:
        return self._read(self._scope.node(node.name), np.array(True), np.array(False), _DT_BOOL)

    def _read(self, node: str, low: Array, raised: Array, kind: int) -> str:
        handle = self._node("VarHandleOp", [], dtype=kind)
        handle.attr["shared_name"].s = self._emulation.variable(node, low, raised).encode()
        for size in low.shape:
            handle.attr["shape"].shape.dim.add().size = size
        handle.attr["shape"].shape.SetInParent()
        read = self._node("ReadVariableOp", [self._scope.written(handle.name)], dtype=kind)
        handle.device = read.device = "/device:CPU:0"
        return self._scope.written(read.name)

    def _node(self, op: str, inputs: list[str], **types: int) -> node_def_pb2.NodeDef:
        return self._scope.add(op, self._name(), inputs, **types)

    def _name(self) -> str:
        self._added += 1
        return f"islands/{self._added}"

    def _plain(self, source: str) -> str:
        """How a tensor is written, in one way: a graph may write its first output with or without the ':0'."""
        return source.removesuffix(":0") if self._scope.function is None else source

    def _redirect(self, written: str, moved: str) -> None:
        for reader, position in self._readers[self._plain(written)]:
            reader.input[position] = moved
        if self._scope.function is not None:
            for key, source in list(self._scope.function.ret.items()):
                if source == written:
                    self._scope.function.ret[key] = moved
        else:
            for name in self._fetched:
                if self._plain(name) == self._plain(written):
                    self._fetched[name] = f"{moved}:0"

    def _drop_unread_constants(self) -> None:
        """What a variable now holds need not be in memory once more."""
        read = {node_name(source) for node in self._scope.nodes for source in node.input}
        if self._scope.function is not None:
            read |= {node_name(source) for source in self._scope.function.ret.values()}
        else:
            read |= {node_name(name) for name in self._fetched}
        unread = [number for number, node in enumerate(self._scope.nodes)
                  if node.op == "Const" and node.name not in read]
        for number in reversed(unread):
            del self._scope.nodes[number]


def _float_inputs(node: node_def_pb2.NodeDef) -> list[int]:
    """The positions of the float32 inputs of ``node``."""
    return [position for position, kind in enumerate(data_types(node, "input_arg")) if kind == _DT_FLOAT]


def _destroy(handles: list[Any]) -> None:
    import tensorflow as tf

    for handle in handles:
        tf.raw_ops.DestroyResourceOp(resource=handle)
