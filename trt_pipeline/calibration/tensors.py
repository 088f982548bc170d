"""Which tensors of a signature's graph a quantizer can want a range of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trt_pipeline.calibration.ranges import Range
from trt_pipeline.calibration.taps import float_tensors
from trt_pipeline.conversion.canonical import constant, root
from trt_pipeline.errors import InputError
from trt_pipeline.model.nodes import node_name
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D", "Conv2DBackpropInput"})
PRODUCTS = CONVOLUTIONS | {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"}
# What int8 convolutions hand to one another goes through these without leaving int8.
_CHAIN = CONVOLUTIONS | {
    "BiasAdd", "Add", "AddV2", "Relu", "Relu6", "LeakyRelu", "Elu", "MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D",
    "AvgPool3D", "ConcatV2", "Mean", "Pad", "PadV2", "MirrorPad", "ResizeBilinear", "ResizeNearestNeighbor",
    "ResizeBicubic"}
# These become part of the operation before them, whose own result then never exists.
_FUSED = frozenset({"BiasAdd", "Relu", "Relu6"})


@dataclass
class Wanted:
    """What to measure of a graph, by scoped tensor name."""

    histograms: list[str] = field(default_factory=list)
    """What can be quantized: its values are to be counted."""
    extents: list[str] = field(default_factory=list)
    """All other float32 tensors: of these the smallest and the largest value will do."""
    constants: dict[str, Range] = field(default_factory=dict)
    """Constants that can be quantized, weights above all: known without running anything."""


def wanted(graph_def: graph_pb2.GraphDef, outputs: Iterable[str] = ()) -> Wanted:
    """What to measure of a canonical graph.

    Args:
        outputs: names of the tensors that are fetched.

    Raises:
        InputError: a constant that can be quantized holds NaN or infinity.
    """
    known: dict[str, set[str]] = defaultdict(set)
    for scope, _, name in float_tensors(graph_def, results=True):
        known[scope.path].add(name)
    scopes = scopes_of(graph_def)
    convolutional = any(node.op in CONVOLUTIONS for scope in scopes for node in scope.nodes)
    chosen: set[str] = set()
    for scope in scopes:
        inputs = {root(scope, source) for _, source in _operands(scope)}
        if convolutional:
            inputs |= _links(scope, outputs)
        chosen |= inputs & known[scope.path]
    extents = [name for _, _, name in float_tensors(graph_def)]
    return Wanted(sorted(chosen), sorted(set(extents) - chosen), constant_ranges(graph_def))


def constant_ranges(graph_def: graph_pb2.GraphDef) -> dict[str, Range]:
    """The smallest and the largest value of every float32 constant that a convolution or a matrix product reads.

    By the scoped name of the Const's tensor.

    Raises:
        InputError: one of them holds NaN or infinity.
    """
    found: dict[str, Range] = {}
    for scope in scopes_of(graph_def):
        for node, source in _operands(scope):
            name = root(scope, source)
            if name in found:
                continue
            value = constant(scope, name[len(scope.path):].partition(":")[0])
            if value is None or value.dtype != np.float32 or not value.size:
                continue
            low, high = float(value.min()), float(value.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise InputError(f"the weight {name} of {scope.node(node.name)} holds NaN or infinity: "
                                 "train or export the model again")
            found[name] = low, high
    return dict(sorted(found.items()))


def _operands(scope: Scope) -> list[tuple[node_def_pb2.NodeDef, str]]:
    """Operation and operand, as it is written, of all that int8 would speed up."""
    return [(node, source) for node in scope.nodes if node.op in PRODUCTS
            for source in node.input if not source.startswith("^")]


def _links(scope: Scope, outputs: Iterable[str]) -> set[str]:
    """Results of the operations between int8 convolutions, those left out that the next operation takes in."""
    readers: dict[str, list[str]] = defaultdict(list)
    for node in scope.nodes:
        for source in node.input:
            if not source.startswith("^"):
                readers[node_name(source)].append(node.op)
    results = {node_name(source) for source in (scope.function.ret.values() if scope.function else outputs)}
    found = set()
    for node in scope.nodes:
        if node.op not in _CHAIN and not _is_swish(scope, node):
            continue
        read = readers[node.name]
        if not (len(read) == 1 and read[0] in _FUSED and node.name not in results):
            found.add(scope.tensor(scope.written(node.name)))
    return found


def _is_swish(scope: Scope, node: node_def_pb2.NodeDef) -> bool:
    """Whether ``node`` is x * sigmoid(x), or x * sigmoid(b x)."""
    if node.op != "Mul":
        return False
    return any((maker := scope.maker(source)) is not None and maker.op == "Sigmoid" for source in node.input)
