"""Static shapes of a graph's tensors, table look-ups included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_pipeline.model.contract import Shape
from trt_pipeline.model.nodes import copy_of, node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

    from trt_pipeline.conversion.split.wiring import Tensor, Wiring

# Their result has the shape of this one of their inputs.
_ELEMENTWISE = {"LookupTableFindV2": 1, "StringToHashBucketFast": 0, "StringToHashBucketStrong": 0,
                "StringToHashBucket": 0, "StringToNumber": 0, "StringLower": 0, "StringUpper": 0, "StringStrip": 0,
                "StringLength": 0, "RegexReplace": 0, "StaticRegexReplace": 0, "Identity": 0, "Cast": 0, "Relu": 0,
                "Relu6": 0, "Sigmoid": 0, "Tanh": 0, "Softmax": 0, "LogSoftmax": 0, "Exp": 0, "BiasAdd": 0}
# Their inputs are made as large as the largest.
_BROADCASTING = frozenset({"Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "FloorMod", "Equal", "NotEqual", "Less",
                           "LessEqual", "Greater", "GreaterEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "SelectV2"})


def same_shape(tensor: Tensor, wiring: Wiring) -> list[Tensor]:
    """``tensor`` and others that always have its shape, what comes first first."""
    while (node := wiring.nodes[tensor[0]]).op in _ELEMENTWISE:
        tensor = wiring.reads(node.name)[_ELEMENTWISE[node.op]]
    found = {tensor: None}
    for name in wiring.order:
        op, reads = wiring.nodes[name].op, wiring.reads(name)
        if op in _ELEMENTWISE:
            alike = reads[_ELEMENTWISE[op]] in found
        else:
            alike = op in _BROADCASTING and any(source in found for source in reads) and all(
                source in found or _is_number(wiring, source) for source in reads)
        if alike:
            found[name, 0] = None
    return list(found)


def _is_number(wiring: Wiring, tensor: Tensor) -> bool:
    """Whether it is a constant without axes, or the size of a table."""
    node = wiring.nodes[tensor[0]]
    while node.op in ("Identity", "Cast"):
        node = wiring.nodes[node_name(node.input[0])]
    return node.op == "LookupTableSizeV2" or _is_single(node.name, wiring.nodes)


class Shapes:
    """What shape inference finds for every tensor of a graph."""

    def __init__(self, graph_def: graph_pb2.GraphDef) -> None:
        import tensorflow as tf

        with tf.Graph().as_default() as self._graph:
            tf.import_graph_def(_with_known_lookups(graph_def), name="")

    def of(self, tensor: Tensor) -> Shape | None:
        """The shape of ``tensor``, None where its rank is unknown."""
        shape = self._graph.get_operation_by_name(tensor[0]).outputs[tensor[1]].shape
        return tuple(shape.as_list()) if shape.rank is not None else None

    def rank(self, tensor: Tensor) -> int | None:
        """The number of its dimensions, None where it is unknown."""
        shape = self.of(tensor)
        return None if shape is None else len(shape)

    def dtype(self, tensor: Tensor) -> str:
        """Its dtype, as contracts write it."""
        return str(self._graph.get_operation_by_name(tensor[0]).outputs[tensor[1]].dtype.name)


def _with_known_lookups(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """A graph of the same shapes: a look-up's is unknown, because it could be of a table of vectors.

    The value that it gives for unknown keys tells; where that is a single number, the result has its keys' shape,
    which Fill finds too.
    """
    from tensorflow.core.framework import types_pb2

    nodes = {node.name: node for node in graph_def.node}
    single = {node.name for node in graph_def.node if node.op == "LookupTableFindV2"
              and _is_single(node.input[2], nodes)}
    if not single:
        return graph_def
    copy = copy_of(graph_def)
    for node in copy.node:
        if node.name in single:
            keys, value = node.input[1], node.input[2]
            kinds = node.attr["Tin"].type, node.attr["Tout"].type
            shape = copy.node.add(name=f"{node.name}/shape_of_keys", op="Shape", input=[keys])
            shape.attr["T"].type = kinds[0]
            shape.attr["out_type"].type = types_pb2.DT_INT32
            node.op = "Fill"
            node.attr.clear()
            node.attr["T"].type = kinds[1]
            node.attr["index_type"].type = types_pb2.DT_INT32
            del node.input[:]
            node.input.extend([shape.name, value])
    return copy


def _is_single(written: str, nodes: dict[str, node_def_pb2.NodeDef]) -> bool:
    """Whether a tensor is known to be a single number: a constant or what was captured as one."""
    node = nodes[node_name(written)]
    while node.op == "Identity":
        node = nodes[node_name(node.input[0])]
    if node.op == "Const":
        return not node.attr["value"].tensor.tensor_shape.dim
    shape = node.attr["shape"].shape
    return node.op == "Placeholder" and "shape" in node.attr and not (shape.unknown_rank or shape.dim)
