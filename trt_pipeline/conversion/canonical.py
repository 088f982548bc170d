"""The one form of a signature that calibration measures and every quantizer starts from.

Frozen, simplified by Grappler, constants inside the loops that use them, batch norms folded into
the convolutions before them. Made from the same SavedModel it is always the same, so a tensor's
scoped name (`model.scoped`) means the same to a ranges file, an island and every backend.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.conversion import freeze, grappler, loops
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.model.nodes import copy_of, every_node, node_name
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2, node_def_pb2

_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
# Their result holds the very values of their first input, so it has the same range.
_MOVING_OPS = frozenset({"Identity", "Reshape", "Transpose", "Squeeze", "ExpandDims", "EnsureShape", "StopGradient",
                         "PreventGradient", "Snapshot", "CheckNumerics", "CheckNumericsV2", "SpaceToDepth",
                         "DepthToSpace", "SpaceToBatchND", "BatchToSpaceND"})
_DT_FLOAT = 1


def canonical(function: tf.types.experimental.ConcreteFunction) -> SignatureGraph:
    """The canonical graph of a signature of a loaded SavedModel.

    Raises:
        Unsupported: the signature cannot be frozen.
    """
    return folded(unfolded(freeze.freeze(function)))


def unfolded(frozen: SignatureGraph) -> SignatureGraph:
    """The canonical graph of a frozen signature, but with its batch norms as they were."""
    inputs, outputs = frozen.input_tensors, frozen.output_tensors
    graph_def = grappler.optimize(frozen.graph_def, inputs, outputs)
    return replace(frozen, graph_def=loops.inline_constants(graph_def, [*inputs, *outputs]))


def folded(graph: SignatureGraph) -> SignatureGraph:
    """The canonical graph, from what `unfolded` made."""
    return replace(graph, graph_def=fold_batch_norms(graph.graph_def, graph.output_tensors))


def constant(scope: Scope, written: str) -> npt.NDArray[Any] | None:
    """The value of the Const that a tensor is, through any number of Identity ops; None where it is none."""
    from tensorflow.python.framework import tensor_util

    node = scope.maker(written)
    while node is not None and node.op == "Identity":
        node = scope.maker(node.input[0])
    if node is None or node.op != "Const":
        return None
    value: npt.NDArray[Any] = tensor_util.MakeNdarray(node.attr["value"].tensor)
    return value


def root(scope: Scope, written: str) -> str:
    """The scoped name of the tensor that ``written`` is, before operations that only move its values.

    Ranges are kept under this name: whichever of those operations a backend drops or adds, it can find it.
    """
    while (node := scope.maker(written)) is not None and node.op in _MOVING_OPS:
        written = node.input[0]
    return scope.tensor(written)


def fold_batch_norms(graph_def: graph_pb2.GraphDef, outputs: list[str]) -> graph_pb2.GraphDef:
    """A graph in which inference batch norms after convolutions are the convolution's own scale and a BiasAdd.

    It is a copy, save where there is no batch norm.

    y = (conv(x, w) + c - mean) * g + beta, with g = gamma / sqrt(variance + epsilon), is
    conv(x, w * g) + ((c - mean) * g + beta), c being the bias of a BiasAdd between. The BiasAdd takes
    the batch norm's name, so the tensors after it keep theirs.
    """
    if not any(node.op in _NORMS for node in every_node(graph_def)):
        return graph_def
    copy = copy_of(graph_def)
    kept = {node_name(name) for name in outputs}
    for scope in scopes_of(copy):
        readers = _readers(scope) + Counter(kept if scope.function is None else ())
        for norm in [node for node in scope.nodes if node.op in _NORMS]:
            _fold(scope, norm, readers)
    return copy


def _readers(scope: Scope) -> Counter[str]:
    """How many edges leave each node of ``scope``."""
    sources = [node_name(source) for node in scope.nodes for source in node.input]
    if scope.function is not None:
        sources += [node_name(source) for source in scope.function.ret.values()]
    return Counter(sources)


def _fold(scope: Scope, norm: node_def_pb2.NodeDef, readers: Counter[str]) -> None:
    before = scope.maker(norm.input[0])
    bias_add = before if before is not None and before.op == "BiasAdd" else None
    convolution = scope.maker(bias_add.input[0]) if bias_add is not None else before
    depthwise = convolution is not None and convolution.op == "DepthwiseConv2dNative"
    if (norm.attr["is_training"].b or norm.attr["T"].type != _DT_FLOAT or convolution is None
            or not (depthwise or convolution.op == "Conv2D")
            or readers[convolution.name] > 1 or (bias_add is not None and readers[bias_add.name] > 1)
            or _reads_statistics(scope, norm)
            or _format(convolution) != _format(norm)):
        return
    weight, *numbers = (constant(scope, source) for source in (convolution.input[1], *norm.input[1:5]))
    bias = constant(scope, bias_add.input[1]) if bias_add is not None else np.zeros(1, np.float32)
    if weight is None or bias is None or any(number is None for number in numbers):
        return
    gamma, beta, mean, variance = (np.asarray(number, np.float64) for number in numbers)
    gain = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
    offset = (bias - mean) * gain + beta
    # Channels are the last axis of HWIO and, in a depthwise kernel (HWIM), the last two together.
    shaped = gain.reshape(weight.shape[2:]) if depthwise else gain
    convolution.input[1] = scope.add_constant(f"{norm.name}/folded_weight", (weight * shaped).astype(np.float32))
    added = scope.add_constant(f"{norm.name}/folded_bias", offset.astype(np.float32))
    # Inside a function outputs are written by their argument's name, which differs from op to op.
    before_folding = scope.written(norm.name)
    controls = [source for source in norm.input if source.startswith("^")]
    norm.op = "BiasAdd"
    data_format = norm.attr["data_format"].s
    norm.attr.clear()
    norm.attr["T"].type = _DT_FLOAT
    norm.attr["data_format"].s = data_format or b"NHWC"
    del norm.input[:]
    norm.input.extend([scope.written(convolution.name), added, *controls])
    scope.redirect(before_folding, scope.written(norm.name))


def _reads_statistics(scope: Scope, norm: node_def_pb2.NodeDef) -> bool:
    """Whether anything reads another output of ``norm`` than the first."""
    first = {norm.name, f"{norm.name}:0", f"{norm.name}:y:0", f"^{norm.name}"}
    sources = [source for node in scope.nodes for source in node.input]
    sources += list(scope.function.ret.values()) if scope.function is not None else []
    return any(node_name(source) == norm.name and source not in first for source in sources)


def _format(node: node_def_pb2.NodeDef) -> bytes:
    return bytes(node.attr["data_format"].s or b"NHWC")
