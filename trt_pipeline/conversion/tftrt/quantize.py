"""INT8 for TF-TRT: explicit Q/DQ around convolutions, from ranges that any machine can measure.

`QuantizeAndDequantizeV2`, signed, with ranges given, is what TF-TRT turns into TensorRT's own Q/DQ
layers, and its arithmetic on a CPU is TensorRT's to the bit: clip(round(x / s), -128, 127) * s with
s = largest magnitude / 127. Inputs and weights both need one, or the product leaves its segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.nodes import copy_of

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

Ranges = dict[str, tuple[float, float]]
Feeds = dict[str, npt.NDArray[Any]]
# TF-TRT's converter of Q/DQ reshapes what has fewer than 4 dimensions and then goes on with the
# tensor from before (convert/ops/quantization_ops.cc), so only these keep theirs.
_CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D"})
_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2DBackpropInput",
                       "Conv3DBackpropInputV2"})
_SUFFIX = "/int8"


def is_ours(node: node_def_pb2.NodeDef) -> bool:
    """Whether ``node`` is a Q/DQ that `insert` put in."""
    return bool(node.op == "QuantizeAndDequantizeV2" and node.name.endswith(_SUFFIX))


def tensors(graph_def: graph_pb2.GraphDef) -> list[str]:
    """The tensors whose ranges `insert` needs: inputs and weights of convolutions, by tensor name.

    Raises:
        Unsupported: there is no convolution.
    """
    found = [source for node in graph_def.node if _is_quantizable(node) for source in node.input[:2]]
    if not found:
        others = sum(node.op in _PRODUCTS for node in graph_def.node)
        raise Unsupported(
            "int8: TF-TRT loses the quantization of tensors with fewer than 4 dimensions, so only convolutions keep "
            f"theirs, and there is none ({others} other products): use the backend tensorrt or onnxruntime for int8")
    return list(dict.fromkeys(_full_name(source) for source in found))


def _is_quantizable(node: node_def_pb2.NodeDef) -> bool:
    return node.op in _CONVOLUTIONS and node.attr["T"].type == 1  # DT_FLOAT


def measure(frozen: SignatureGraph, batches: Iterable[Feeds]) -> Ranges:
    """Smallest and largest value of each tensor that `insert` needs, over ``batches`` of inputs by name.

    Only the two numbers of a tensor leave the graph, so memory is bounded by one batch.
    """
    import tensorflow as tf
    from tensorflow.python.eager import wrap_function

    wanted = tensors(frozen.graph_def)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph_def, name="")
        extremes = [reduce(graph.get_tensor_by_name(tensor)).name
                    for tensor in wanted for reduce in (tf.reduce_min, tf.reduce_max)]
        function = wrap_function.function_from_graph_def(
            graph.as_graph_def(), list(frozen.inputs.values()), extremes, frozen.resources)
    lowest, highest = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
    for feeds in batches:
        values = np.array([float(v) for v in function(*(tf.constant(feeds[name]) for name in frozen.inputs))])
        lowest, highest = np.minimum(lowest, values[0::2]), np.maximum(highest, values[1::2])
    return {name: (low, high) for name, low, high in zip(wanted, lowest.tolist(), highest.tolist(), strict=True)}


def insert(graph_def: graph_pb2.GraphDef, ranges: Ranges) -> tuple[graph_pb2.GraphDef, int]:
    """``graph_def`` with Q/DQ on both inputs of every convolution, and how many convolutions have it.

    Raises:
        Unsupported: a range is missing or none is usable, or there is no convolution.
    """
    wanted = tensors(graph_def)
    missing = [name for name in wanted if name not in ranges]
    if missing:
        raise Unsupported(f"int8: the ranges have none for {missing[0]}: calibrate this very model again")
    # A tensor that is always zero has no scale, and nothing to lose at float32.
    quantized = {name: max(abs(bound) for bound in ranges[name]) for name in wanted}
    quantized = {name: largest for name, largest in quantized.items() if 0 < largest < float("inf")}
    copy = copy_of(graph_def)
    count = 0
    for node in copy.node:
        sources = [_full_name(source) for source in node.input[:2]]
        if _is_quantizable(node) and all(source in quantized for source in sources):
            count += 1
            for position, source in enumerate(sources):
                node.input[position] = _quantized_name(source)
    if not count:
        raise Unsupported("int8: no convolution has usable ranges (all zero or infinite): calibrate on other samples")
    for tensor, largest in quantized.items():
        copy.node.extend(_quantizer(tensor, largest))
    return copy, count


def _quantizer(tensor: str, largest: float) -> Iterator[node_def_pb2.NodeDef]:
    from tensorflow.core.framework import node_def_pb2, types_pb2
    from tensorflow.python.framework import tensor_util

    name = _quantized_name(tensor)
    for bound, value in (("min", -largest), ("max", largest)):
        constant = node_def_pb2.NodeDef(name=f"{name}/{bound}", op="Const")
        constant.attr["dtype"].type = types_pb2.DT_FLOAT
        constant.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(np.float32(value)))
        yield constant
    node = node_def_pb2.NodeDef(name=name, op="QuantizeAndDequantizeV2", input=[tensor, f"{name}/min", f"{name}/max"])
    node.attr["T"].type = types_pb2.DT_FLOAT
    node.attr["num_bits"].i = 8
    node.attr["round_mode"].s = b"HALF_TO_EVEN"
    # Per tensor: TF-TRT reads the first channel's range alone, whatever the axis.
    node.attr["axis"].i = -1
    for key, value in (("signed_input", True), ("range_given", True), ("narrow_range", False)):
        node.attr[key].b = value
    yield node


def _full_name(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _quantized_name(tensor: str) -> str:
    return tensor.replace(":", "_") + _SUFFIX
