"""Rewrite what the TensorRT pass crashes on, refuses its own result for, or is needlessly split by.

Each rewriting computes the same. They go over loop and branch bodies too.
"""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING, Any

from trt_pipeline.model.nodes import copy_of, node_name, scopes

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2

# Reading state is no effect: the order of two reads does not matter.
_READS = frozenset({"Placeholder", "VarHandleOp", "ReadVariableOp", "ResourceGather", "LookupTableFindV2",
                    "LookupTableSizeV2"})
# They only pass on what they check, and are there for the error.
_CHECKS = frozenset({"EnsureShape", "CheckNumerics", "CheckNumericsV2"})
# A branch that is not taken is dead, and a control edge is how its constants are.
_BRANCHING = frozenset({"Switch", "RefSwitch", "_SwitchN", "Merge", "RefMerge", "Enter", "RefEnter", "Exit", "RefExit",
                        "NextIteration", "RefNextIteration", "LoopCond"})


def prepare(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """A copy of ``graph_def`` that is safe to hand to the pass."""
    copy = copy_of(graph_def)
    for nodes, owner in scopes(copy):
        _select_by_broadcasting(nodes, in_function=owner is not None)
        _measure_shapes_in_int32(nodes, in_function=owner is not None)
        _drop_idle_controls(nodes)
    return copy


def _select_by_broadcasting(nodes: Any, in_function: bool) -> None:
    """Turn Select into SelectV2: a condition with one element a row crashes the converter.

    `ConvertSelectBase::Validate` (convert/ops/selectv2.cc, TensorFlow 2.14 to 2.17) takes the length of
    such a condition for a rank. The condition gets trailing axes of length 1, up to the values' rank.
    """
    from tensorflow.core.framework import types_pb2

    graph = _Adder(nodes, in_function)
    for node in [node for node in nodes if node.op == "Select"]:
        condition, values = node.input[0], node.input[1]
        kind = node.attr["T"].type
        shape = graph.add(f"{node.name}/shape", "Shape", [condition], "output",
                          T=types_pb2.DT_BOOL, out_type=types_pb2.DT_INT32)
        own_rank = graph.add(f"{node.name}/own_rank", "Rank", [condition], "output", T=types_pb2.DT_BOOL)
        rank = graph.add(f"{node.name}/rank", "Rank", [values], "output", T=kind)
        missing = graph.add(f"{node.name}/missing", "Sub", [rank, own_rank], "z", T=types_pb2.DT_INT32)
        zero = graph.constant(f"{node.name}/zero", 0)
        length = graph.add(f"{node.name}/length", "ExpandDims", [missing, zero], "output",
                           T=types_pb2.DT_INT32, Tdim=types_pb2.DT_INT32)
        ones = graph.add(f"{node.name}/ones", "Fill", [length, graph.constant(f"{node.name}/one", 1)], "output",
                         T=types_pb2.DT_INT32, index_type=types_pb2.DT_INT32)
        target = graph.add(f"{node.name}/target", "ConcatV2", [shape, ones, zero], "output",
                           T=types_pb2.DT_INT32, Tidx=types_pb2.DT_INT32)
        nodes[-1].attr["N"].i = 2
        node.input[0] = graph.add(f"{node.name}/condition", "Reshape", [condition, target], "output",
                                  T=types_pb2.DT_BOOL, Tshape=types_pb2.DT_INT32)
        node.op = "SelectV2"


def _measure_shapes_in_int32(nodes: Any, in_function: bool) -> None:
    """Turn Shape of int64 into one of int32 and a Cast: the pass takes it, and an engine cannot return int64."""
    from tensorflow.core.framework import types_pb2

    graph = _Adder(nodes, in_function)
    for node in [n for n in nodes if n.op == "Shape" and n.attr["out_type"].type == types_pb2.DT_INT64]:
        measured = graph.add(f"{node.name}/int32", "Shape", list(node.input), "output",
                             T=node.attr["T"].type, out_type=types_pb2.DT_INT32)
        cast = graph.add(f"{node.name}/int64", "Cast", [measured], "y",
                         SrcT=types_pb2.DT_INT32, DstT=types_pb2.DT_INT64)
        # The name stays with an op whose output is called as Shape's is.
        del node.input[:]
        node.input.append(cast)
        node.attr.clear()
        node.op = "Identity"
        node.attr["T"].type = types_pb2.DT_INT64


def _drop_idle_controls(nodes: Any) -> None:
    """Cut control edges behind which there is no effect: inlining leaves them, and each one splits a segment."""
    by_name = {node.name: node for node in nodes}
    sources = {name: {node_name(source) for source in node.input} & by_name.keys() for name, node in by_name.items()}
    effects: set[str] = set()
    try:
        for name in graphlib.TopologicalSorter(sources).static_order():
            if _has_effect(by_name[name]) or sources[name] & effects:
                effects.add(name)
    except graphlib.CycleError:
        return  # a loop as TensorFlow 1 has them: left alone
    for node in nodes:
        kept = [source for source in node.input if not source.startswith("^") or source[1:] in effects]
        if len(kept) < len(node.input):
            del node.input[:]
            node.input.extend(kept)


def _has_effect(node: Any) -> bool:
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if node.op in _READS:
        return False
    return node.op in _BRANCHING | _CHECKS or definition is None or definition.is_stateful


class _Adder:
    """Adds nodes to a graph or to a function body, which write their tensors differently."""

    def __init__(self, nodes: Any, in_function: bool) -> None:
        self.nodes, self.in_function = nodes, in_function

    def add(self, name: str, op: str, inputs: list[str], output: str, **types: int) -> str:
        """Add a node; returns its first output, called ``output`` by its op, as others may read it."""
        node = self.nodes.add(name=name, op=op, input=inputs)
        for key, value in types.items():
            node.attr[key].type = value
        return f"{name}:{output}:0" if self.in_function else name

    def constant(self, name: str, value: int) -> str:
        from tensorflow.core.framework import types_pb2
        from tensorflow.python.framework import tensor_util

        added = self.add(name, "Const", [], "output", dtype=types_pb2.DT_INT32)
        self.nodes[-1].attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value, dtype=types_pb2.DT_INT32))
        return added
