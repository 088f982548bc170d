"""INT8 in an ONNX model, by measured ranges, for ONNX Runtime's CPU kernels or for TensorRT.

Statically, inside loops too: measuring a tensor anew at each run is no faster (1 to 8 sentences of a
translator), changes more of its tokens, and makes an answer depend on what else is in the batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onnx_precision import proof
from trt_pipeline.conversion.onnx_precision.affine import Style
from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.conversion.onnx_precision.insert import Writer, tidy
from trt_pipeline.conversion.onnx_precision.names import Names
from trt_pipeline.conversion.onnx_precision.placement import Placement, place
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.low_precision import LowPrecision

if TYPE_CHECKING:
    import onnx


def quantize(source: Path, target: Path, graph: SignatureGraph, ranges: SignatureRanges, raised: frozenset[str],
             style: Style) -> LowPrecision:
    """Quantize the fp32 model ``source``, exported from ``graph``, into ``target``.

    Args:
        graph: the canonical graph.
        ranges: of the tensors of ``graph``.
        raised: scoped names of operations that stay in fp32.
        style: "cpu": U8 activations that hold 0, chains of them around convolutions, int32 biases.
            "tensorrt": symmetric S8 before the inputs of weighted operations.

    Returns:
        The weighted operations in int8 (for the CPU: those that ONNX Runtime really runs in it), and
        the others with what kept them.

    Raises:
        Unsupported: nothing could be quantized, or ONNX Runtime does not load the result.
    """
    import onnx

    # External weights lie beside the model file, under this name.
    large = source.with_name(f"{source.name}.data").exists()
    model = onnx.load(str(source))
    name_nodes(model)
    names = Names(graph, model)
    placement = place(names, ranges, raised, style)
    if not placement.weighted:
        raise Unsupported(_nothing(placement))
    labels = [(name, f"{body.path}{node.name}", f"{body.path}{node.output[0]}")
              for body, node, name in placement.weighted]
    Writer(names.bodies, placement, style, str(source.parent)).write()
    tidy(model)
    save(model, target, large)
    kernels = proof.really(target, "int8")
    if style == "tensorrt":  # what ONNX Runtime's CPU kernels make of it says nothing of TensorRT
        return LowPrecision(precision="int8", nodes=tuple(name for name, *_ in labels), kept=placement.kept)
    kept = dict(placement.kept)
    nodes = [name for name, *found in labels if kernels.low.intersection(found)]
    kept |= {name: "ONNX Runtime runs it in float" for name, *found in labels if not kernels.low.intersection(found)}
    if not nodes:
        raise Unsupported(f"ONNX Runtime runs none of the {len(labels)} quantized operations in int8")
    return LowPrecision(precision="int8", nodes=tuple(nodes), kept=kept)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node of ``model`` a name: ONNX Runtime's, TensorRT's and our messages go by it."""
    for body in bodies_of(model):
        for node in body.graph.node:
            node.name = node.name or next(filter(None, node.output), node.op_type)


def save(model: onnx.ModelProto, target: Path, large: bool) -> None:
    """Write ``model`` to ``target``, its weights beside it where they are ``large``."""
    import onnx

    target.parent.mkdir(parents=True, exist_ok=True)
    data = target.with_name(f"{target.name}.data")
    data.unlink(missing_ok=True)  # it would be appended to
    onnx.save_model(model, str(target), save_as_external_data=large, location=data.name, size_threshold=1024)


def _nothing(placement: Placement) -> str:
    if not placement.kept:
        return ("no operation could be quantized: the graph has no convolution or matrix product "
                "with a constant weight")
    name, why = next(iter(placement.kept.items()))
    more = f", and {len(placement.kept) - 1} more" if len(placement.kept) > 1 else ""
    return f"no operation could be quantized: {name}: {why}{more}"
