"""Which operations of a graph only TensorFlow on the host can do, and which have weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from trt_pipeline.conversion import onnx_support
from trt_pipeline.conversion.loops import LOOPS
from trt_pipeline.conversion.split.wiring import SOURCES, Wiring
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.nodes import called_functions, data_types, node_name
from trt_pipeline.model.operations import Operation

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, node_def_pb2

    from trt_pipeline.conversion.freeze import SignatureGraph

_PRODUCTS = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2",
                       "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})
# Smaller constants are factors and offsets, as of a picture's channels.
_SMALLEST_WEIGHT = 64
_FLOATS = frozenset({1, 2, 14, 19})  # DT_FLOAT, DT_DOUBLE, DT_BFLOAT16, DT_HALF
_DT_STRING, _DT_RESOURCE, _DT_VARIANT = 7, 20, 21
# They do nothing with the strings that they read, and a graph without them answers the same.
_CHECKS = frozenset({"Assert", "NoOp"})


class Hosts:
    """The operations of one graph, told apart.

    ``why`` is why a node of the graph itself has to stay on the host; ``weighted`` are the nodes with weights, or
    that multiply matrices; ``numbers`` are those that make no strings. What is inside a loop or branch counts for
    the node that runs it.

    Raises:
        Unsupported: a loop or branch has both inside.
    """

    def __init__(self, graph: SignatureGraph, wiring: Wiring, kept: Collection[str] = ()) -> None:
        """
        Args:
            kept: types of operations to leave on the host though ONNX has them.
        """
        self._functions = {f.signature.name: f for f in graph.graph_def.library.function}
        self._kept = kept
        self.why: dict[str, str] = {}
        self.weighted: set[str] = set()
        for name in wiring.order:
            node = wiring.nodes[name]
            bodies = list(self._bodies(node))
            inside = [(found, why) for body in bodies for found, why in self._refused(body.node_def)]
            weighs = any(source in graph.weights for source, _ in wiring.reads(name))
            if weighs or _has_weight(node, wiring.nodes) or any(map(_any_weight, bodies)):
                self.weighted.add(name)
                if inside:
                    # Rather what is all about strings than what only hands them on.
                    found, why = min(inside, key=lambda one: one[0].string and "String" not in one[0].op)
                    kind = "loop" if node.op in LOOPS else "call"
                    raise Unsupported(f"{found.op} ({found.name}, {why}) is inside the {kind} {name}, which has "
                                      "weights: move it out of there")
            refused = self._refused([node])
            if any(source in self.why and carries_list(wiring.nodes[source], number)
                   for source, number in wiring.reads(name)):
                self.why[name] = "reads a list that is on the host"
            elif refused or inside:
                self.why[name] = refused[0][1] if refused else f"has {inside[0][0].op} inside, which {inside[0][1]}"
        self.weighted -= self.why.keys()
        self.numbers = {name for name in wiring.order if _DT_STRING not in data_types(wiring.nodes[name], "output_arg")}

    def _refused(self, nodes: Collection[node_def_pb2.NodeDef]) -> list[tuple[Operation, str]]:
        operations = [Operation(op=n.op, name=n.name, string=_on_host(n)) for n in nodes
                      if n.op not in SOURCES and n.op not in _CHECKS]
        refused = onnx_support.without_form(operations)
        known = {operation.name for operation, _ in refused}
        # Structure is nothing to a converter, but strings can't pass through it on a GPU.
        refused += [(o, "works on strings") for o in operations if o.string and o.name not in known]
        return refused + [(o, "is to stay on the host") for o in operations if o.op in self._kept]

    def _bodies(self, node: node_def_pb2.NodeDef, seen: frozenset[str] = frozenset()
                ) -> Iterator[function_pb2.FunctionDef]:
        for called in called_functions(node):
            if called.name in self._functions and called.name not in seen:
                body = self._functions[called.name]
                yield body
                for inner in body.node_def:
                    yield from self._bodies(inner, seen | {called.name})


def makes_floats(node: node_def_pb2.NodeDef) -> bool:
    """Whether an output of ``node`` is of floating-point numbers; where its outputs aren't known, too."""
    made = data_types(node, "output_arg")
    return not made or bool(_FLOATS.intersection(made))


def carries_list(node: node_def_pb2.NodeDef, output: int) -> bool:
    """Whether an output of ``node`` is a list of tensors, or another thing of TensorFlow's own."""
    made = data_types(node, "output_arg")
    return output < len(made) and made[output] == _DT_VARIANT


def _on_host(node: node_def_pb2.NodeDef) -> bool:
    types = data_types(node, "input_arg") + data_types(node, "output_arg")
    return _DT_STRING in types or (_DT_RESOURCE in types and not any(True for _ in called_functions(node)))


def _any_weight(body: function_pb2.FunctionDef) -> bool:
    nodes = {node.name: node for node in body.node_def}
    return any(_has_weight(node, nodes) for node in body.node_def)


def _has_weight(node: node_def_pb2.NodeDef, nodes: dict[str, node_def_pb2.NodeDef]) -> bool:
    if node.op in _PRODUCTS:
        return True
    return any(parameters(nodes[name]) >= _SMALLEST_WEIGHT for source in node.input
               if not source.startswith("^") and (name := node_name(source)) in nodes)


def parameters(node: node_def_pb2.NodeDef) -> int:
    """How many floating-point numbers ``node`` holds; none where it is no constant."""
    if node.op != "Const" or node.attr["dtype"].type not in _FLOATS:
        return 0
    return math.prod(dimension.size for dimension in node.attr["value"].tensor.tensor_shape.dim)
