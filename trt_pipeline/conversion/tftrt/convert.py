"""One signature from end to end: its graph, quantized where asked, its loops readied, segmented, and counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import canonical, freeze, loops
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.tftrt import coverage, quantize, segment, variables
from trt_pipeline.conversion.tftrt.prepare import prepare
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.coverage import Coverage
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.nodes import every_node

if TYPE_CHECKING:
    import tensorflow as tf

    from trt_pipeline.conversion.tftrt.options import Calibrator

_QUANTIZER = "QuantizeAndDequantizeV2"
# What quantization-aware training leaves; TF-TRT reads their ranges at INT8 only.
_FAKE_QUANTIZERS = ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs")


@dataclass(frozen=True)
class Segmented:
    """A signature with its TensorRT segments."""

    graph: SignatureGraph
    coverage: Coverage
    low_precision: LowPrecision | None
    """Which convolutions' inputs and weights are quantized, where that was done here."""


def convert(function: tf.types.experimental.ConcreteFunction, precision: str, prefix: str, *, keep_variables: bool,
            calibrator: Calibrator = "minmax", profile_strategy: str = "range",
            ranges: SignatureRanges | None = None, raised: frozenset[str] = frozenset()) -> Segmented:
    """Segment a signature of a loaded SavedModel at ``precision`` ("fp32", "fp16", "int8").

    Args:
        prefix: makes the engines' names unique; see `segment.segment`.
        keep_variables: leave weights as variables, which all signatures and segments share.
        calibrator: "minmax" quantizes here, by ``ranges``; "tensorrt" leaves it to TensorRT's
            calibrator, on a GPU.
        profile_strategy: see `options.Options`.
        raised: convolutions that int8 leaves alone, by scoped name.

    Raises:
        Unsupported: the signature cannot be taken, or TensorRT takes nothing of it; with the reason.
    """
    graph = freeze.inline(function) if keep_variables else freeze.freeze(function)
    if any(node.op == segment.ENGINE for node in every_node(graph.graph_def)):
        raise Unsupported("it has TensorRT segments already: give the model that they were made from")
    if keep_variables:
        variables.declare(graph)
    inputs, outputs = graph.input_tensors, graph.output_tensors
    operations = {node.op for node in every_node(graph.graph_def)}
    own_quantization = bool(operations & {_QUANTIZER, *_FAKE_QUANTIZERS})
    quantizing = precision == "int8" and calibrator == "minmax" and not own_quantization
    if quantizing:
        # Grappler moves factors into weights, so only the graph that was calibrated has the tensors that were seen.
        graph = canonical.unfolded(graph)
    graph = replace(graph, graph_def=segment.tidy(prepare(graph.graph_def), inputs, outputs))
    if precision != "int8" and _QUANTIZER in operations:
        raise Unsupported(f"its graph is quantized already ({_QUANTIZER}), which TF-TRT can only build at int8")
    looped = loops.inline_constants(graph.graph_def, [*inputs, *outputs])
    low: LowPrecision | None = None
    if quantizing:
        if ranges is None:
            raise Unsupported("int8 needs calibration samples: set samples.calibration in the config, or give ranges")
        looped, low = quantize.insert(looped, ranges, raised)
    if keep_variables:
        variables.offer(looped)
    with coverage.reporting() as listener:
        segmented = segment.segment(
            looped, inputs, outputs, precision, prefix, quantized=own_quantization,
            calibrate=precision == "int8" and calibrator == "tensorrt", profile_strategy=profile_strategy)
    variables.restore(segmented)
    made = coverage.measure(segmented, listener.text)
    if not made.engines:
        raise Unsupported(_why_nothing(made))
    _check_precision(segment.engines(segmented), precision)
    return Segmented(replace(graph, graph_def=segmented), made, low)


def _why_nothing(made: Coverage) -> str:
    if not made.operations:
        return "it computes nothing"
    return "TensorRT takes nothing of it: " + ", ".join(map(str, made.left_out[:5]))


def _check_precision(engines: list[tf.compat.v1.NodeDef], precision: str) -> None:
    """TF-TRT changes the precision by itself, silently: to FP16 where INT8 found no Q/DQ."""
    found = {node.attr["precision_mode"].s.decode().lower() for node in engines}
    if precision not in found:
        raise Unsupported(f"TF-TRT made engines at {', '.join(sorted(found))} where {precision} was asked: nothing "
                          "that is quantized lies in a segment")
