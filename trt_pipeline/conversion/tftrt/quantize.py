"""INT8 for TF-TRT: explicit Q/DQ around convolutions, from ranges that any machine can measure.

`QuantizeAndDequantizeV2`, signed, with ranges given, is what TF-TRT turns into TensorRT's own Q/DQ
layers, and its arithmetic on a CPU is TensorRT's to the bit: clip(round(x / s), -128, 127) * s with
s = largest magnitude / 127. Inputs and weights both need one, or the product leaves its segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.canonical import constant, root
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.nodes import copy_of
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

# TF-TRT's converter of Q/DQ reshapes what has fewer than 4 dimensions and then goes on with the
# tensor from before (convert/ops/quantization_ops.cc), so only these keep theirs.
_CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D"})
_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2DBackpropInput",
                       "Conv3DBackpropInputV2"})
_SUFFIX = "/int8"
_DT_FLOAT = 1


def is_ours(node: node_def_pb2.NodeDef) -> bool:
    """Whether ``node`` is a Q/DQ that `insert` put in."""
    return bool(node.op == "QuantizeAndDequantizeV2" and node.name.endswith(_SUFFIX))


def insert(graph_def: graph_pb2.GraphDef, ranges: SignatureRanges,
           raised: frozenset[str] = frozenset()) -> tuple[graph_pb2.GraphDef, LowPrecision]:
    """``graph_def`` with Q/DQ on both inputs of its convolutions, those in bodies included, and on which.

    Args:
        graph_def: frozen, with its constants inside the bodies that use them.
        raised: convolutions to leave as they are, by scoped name.

    Raises:
        Unsupported: no convolution could be quantized.
    """
    copy = copy_of(graph_def)
    nodes: list[str] = []
    kept: dict[str, str] = {}
    others = 0
    for scope in scopes_of(copy):
        others += sum(node.op in _PRODUCTS for node in scope.nodes)
        made: set[str] = set()
        for node in [node for node in scope.nodes if node.op in _CONVOLUTIONS]:
            name = scope.node(node.name)
            largest = [_largest(scope, source, ranges) for source in node.input[:2]]
            if why := _why_kept(node, name in raised, largest):
                kept[name] = why
                continue
            nodes.append(name)
            for position, magnitude in enumerate(largest):
                assert magnitude
                source = node.input[position]
                if source not in made:
                    made.add(source)
                    _quantize(scope, source, magnitude)
                node.input[position] = scope.written(_quantized_name(source))
    if not nodes:
        why = "; ".join(dict.fromkeys(kept.values()))
        raise Unsupported(f"int8: no convolution can be quantized: {why}" if kept else
                          "int8: TF-TRT loses the quantization of tensors with fewer than 4 dimensions, so only "
                          f"convolutions keep theirs, and there is none ({others} other products): use the backend "
                          "tensorrt or onnxruntime for int8")
    return copy, LowPrecision(precision="int8", nodes=tuple(nodes), kept=kept)


def _largest(scope: Scope, source: str, ranges: SignatureRanges) -> float | None:
    """The largest magnitude of a tensor: a constant's own, else that of its range; None where it has none."""
    value = constant(scope, source)
    if value is not None:
        return float(np.abs(value).max(initial=0.0))
    found = ranges.of(root(scope, source))
    return max(abs(bound) for bound in found) if found else None


def _why_kept(node: node_def_pb2.NodeDef, raised: bool, largest: list[float | None]) -> str:
    if raised:
        return "raised"
    if node.attr["T"].type != _DT_FLOAT:
        return "it is not float32"
    if None in largest:
        return "no range was measured for what it reads"
    # A tensor that is always zero has no scale, and nothing to lose at float32.
    return "" if all(0 < magnitude < float("inf") for magnitude in largest if magnitude is not None) else (
        "what it reads is all zero or infinite")


def _quantize(scope: Scope, tensor: str, largest: float) -> None:
    """Put a Q/DQ of ``tensor`` into its scope, symmetric over ``largest``."""
    from tensorflow.core.framework import types_pb2

    name = _quantized_name(tensor)
    bounds = [scope.add_constant(f"{name}/{bound}", np.float32(value))
              for bound, value in (("min", -largest), ("max", largest))]
    node = scope.add("QuantizeAndDequantizeV2", name, [tensor, *bounds], T=types_pb2.DT_FLOAT)
    node.attr["num_bits"].i = 8
    node.attr["round_mode"].s = b"HALF_TO_EVEN"
    # Per tensor: TF-TRT reads the first channel's range alone, whatever the axis.
    node.attr["axis"].i = -1
    for key, value in (("signed_input", True), ("range_given", True), ("narrow_range", False)):
        node.attr[key].b = value


def _quantized_name(tensor: str) -> str:
    return tensor.replace(":", "_") + _SUFFIX
