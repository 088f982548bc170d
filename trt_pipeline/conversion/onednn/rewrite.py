"""A canonical graph with its convolutions and matrix products in int8, by TensorFlow's own oneDNN operations."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onednn import convolutions, float_weights, products, reshapes
from trt_pipeline.conversion.onednn.editing import Editor
from trt_pipeline.conversion.onednn.report import Report
from trt_pipeline.conversion.onednn.shapes import Shapes, inferred
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.nodes import called_functions, every_node, with_functions_renamed
from trt_pipeline.model.scoped import scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

# What TensorFlow merges into the graph where it is asked to.
_LOWERED = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"})
_NUMBERS = itertools.count()
# Operations with a weight that have no int8 form here, and why where the weight is constant.
_OTHERS = {
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"), "a product that is not a MatMul"),
    "Conv3D": "a 3-D convolution", "Conv2DBackpropInput": "a transposed convolution",
    "Conv3DBackpropInputV2": "a transposed convolution",
}
_PRODUCTS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", *_OTHERS})


def rewrite(graph: SignatureGraph, ranges: SignatureRanges,
            raised: frozenset[str] = frozenset()) -> tuple[SignatureGraph, LowPrecision]:
    """Let what can compute in int8 do so, loop bodies included.

    Args:
        graph: a canonical graph (`conversion.canonical`); it is not changed.
        ranges: those of its tensors.
        raised: scoped names of nodes that stay fp32.

    Returns:
        The graph, to be written by `rebuild.write`, and what of it is int8. It runs where `why_not`
        says so, and needs nothing but TensorFlow.

    Raises:
        Unsupported: nothing can be quantized.
    """
    report = Report(raised)
    # The process remembers functions by name: two rewritings of one graph must not share them.
    copy = with_functions_renamed(graph.graph_def, f"int8_{next(_NUMBERS)}_")
    shapes = Shapes(graph.graph_def)
    called = _called_as_they_run(copy)
    for scope in scopes_of(copy):
        if scope.function is not None and scope.function.signature.name in called:
            report.kept.update({scope.node(n.name): "it is in a function that is called while the graph runs"
                                for n in scope.nodes if n.op in _PRODUCTS})
            continue
        editor = Editor(scope, set(graph.output_tensors))
        convolutions.rewrite(editor, ranges, report, shapes)
        products.rewrite(editor, ranges, report)
        for node in [n for n in scope.nodes if n.op in _OTHERS]:
            name = scope.node(node.name)
            constant = any(canonical.constant(scope, source) is not None for source in _weights(node))
            report.kept[name] = ("raised" if name in raised else
                                 _OTHERS[node.op] if constant else "its weight is not constant")
        editor.tidy()
    if not report.nodes:
        why = f": {next(iter(report.kept.items()))[0]}: {next(iter(report.kept.values()))}" if report.kept else ""
        raise Unsupported(f"no operation of it can compute in int8{why}")
    _simplify(copy, set(graph.output_tensors))
    for node in every_node(copy):
        if node.op in _LOWERED:
            node.attr["_lower_using_switch_merge"].b = True
    return replace(graph, graph_def=copy), report.finished()


def _simplify(graph_def: graph_pb2.GraphDef, outputs: set[str]) -> None:
    """Make faster what stays in float32."""
    known = inferred(graph_def)
    for scope in scopes_of(graph_def):
        editor = Editor(scope, outputs)
        reshapes.simplify(editor, known)
        float_weights.untranspose(editor)
        editor.tidy()


def _weights(node: node_def_pb2.NodeDef) -> list[str]:
    """The inputs of ``node`` that may be its weight."""
    sources = [source for source in node.input if not source.startswith("^")]
    return sources if node.op == "Einsum" else sources[1:2]


def _called_as_they_run(graph_def: graph_pb2.GraphDef) -> set[str]:
    """The functions that are not merged into the graph before it runs, and those that only they reach.

    The operations that are put in have kernels of that name that do nothing. TensorFlow's layout pass
    turns them into others with kernels that work, and it passes over the graph, not over the functions
    that operations call while it runs.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    merged: set[str] = set()
    pending = [graph_def.node]
    while pending:
        for node in [node for node in pending.pop() if node.op in _LOWERED]:
            for called in called_functions(node):
                if called.name in functions and called.name not in merged:
                    merged.add(called.name)
                    pending.append(functions[called.name].node_def)
    elsewhere = {called.name for node in every_node(graph_def) if node.op not in _LOWERED
                 for called in called_functions(node)}
    return (functions.keys() - merged) | elsewhere
