"""INT8 for ONNX Runtime's CPU kernels, with ONNX Runtime's own quantizer.

Activations are unsigned (U8) and weights signed per channel (S8): the pair for which the kernels
use VNNI. Signed activations miss them and are slower than fp32 (28 against 559 GOP/s on MatMul).
The main graph is quantized statically, from samples; matrix products inside loop bodies, which the
static calibrator cannot reach, dynamically.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trt_pipeline.errors import Unsupported

if TYPE_CHECKING:
    import onnx

Feeds = dict[str, npt.NDArray[Any]]
Progress = Callable[[int, int], None]

# Around convolutions the whole chain stays in 8 bits. Softmax and Sigmoid do not: their outputs
# are what clients read, and 256 levels of probability are too few.
_CONVOLUTIONAL_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Relu", "Clip", "LeakyRelu", "MaxPool",
                      "AveragePool", "GlobalAveragePool", "Concat", "Pad", "Resize", "Transpose", "Reshape",
                      "Squeeze", "Unsqueeze", "Split", "Slice")
# Transformers: only the products with a weight; attention, norms and GELU stay in fp32.
_DENSE_OPS = ("Gemm", "MatMul")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantize(source: Path, target: Path, batches: Callable[[], Iterator[Feeds]], count: int,
             progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """Quantize the fp32 model ``source`` into ``target``.

    Args:
        batches: makes a fresh stream of calibration feeds by input name; one batch is in memory at
            a time (ONNX Runtime keeps what one collection makes, so each batch is collected alone).
        count: how many batches there are.

    Returns:
        Facts: share of weighted operations in int8, static and dynamic counts, reduced range.

    Raises:
        Unsupported: nothing could be quantized.
    """
    import onnx
    from onnxruntime import quantization

    logging.getLogger().setLevel(logging.ERROR)  # its advice to preprocess, which the export has done
    # Beside the source: external weights are found relative to the model file.
    large = source.with_name(f"{source.name}.data").exists()
    inferred = source.with_suffix(".inferred.onnx")
    onnx.shape_inference.infer_shapes_path(str(source), str(inferred))
    try:
        main_ops = Counter(node.op_type for node in onnx.load(str(inferred), load_external_data=False).graph.node)
        convolutional = bool(main_ops["Conv"] + main_ops["ConvTranspose"])
        kinds = list(_CONVOLUTIONAL_OPS if convolutional else _DENSE_OPS)
        ranges = _calibrate(inferred, large, kinds, batches, count, progress)
        reduced = not has_vnni()
        model = onnx.load(str(inferred))
        quantizer = quantization.QDQQuantizer(
            model, per_channel=True, reduce_range=reduced,
            weight_qType=quantization.QuantType.QInt8, activation_qType=quantization.QuantType.QUInt8,
            tensors_range=ranges, nodes_to_quantize=[], op_types_to_quantize=kinds,
            nodes_to_exclude=[] if convolutional else _products_of_activations(model),
            # The last product's result is what clients read, and a product in fp32 out costs nothing.
            extra_options={"OpTypesToExcludeOutputQuantization": list(_DENSE_OPS)})
        quantizer.quantize_model()
        model, dynamic = _quantize_loop_bodies(quantizer.model.model, reduced)
    finally:
        for file in inferred.parent.glob(f"{inferred.stem}*"):
            file.unlink()
    facts = _facts(model, dynamic, reduced)
    if not facts["weighted operations in int8"]:
        raise Unsupported("no operation could be quantized: the graph has no convolution or matrix product "
                          "with a constant weight")
    onnx.save_model(model, str(target), save_as_external_data=large, location=f"{target.name}.data",
                    size_threshold=1024)
    return facts


def _products_of_activations(model: onnx.ModelProto) -> list[str]:
    """Attention's own products: a few percent of the work, and the ones that need their precision."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] not in constants]


def has_vnni() -> bool:
    """Whether this CPU multiplies U8 by S8 without saturating; without it weights get 7 bits."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags or "asimddp" in flags


def _calibrate(model: Path, large: bool, kinds: list[str], batches: Callable[[], Iterator[Feeds]], count: int,
               progress: Progress) -> Any:
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    augmented = model.with_suffix(".augmented.onnx")
    calibrator = create_calibrator(model, kinds, str(augmented), CalibrationMethod.MinMax,
                                   use_external_data_format=large,
                                   providers=["CPUExecutionProvider"])
    try:
        for done, feeds in enumerate(batches()):
            calibrator.collect_data(_One(feeds))
            progress(done + 1, count)
        return calibrator.compute_data()
    finally:
        for file in augmented.parent.glob(f"{augmented.stem}*"):
            file.unlink()


class _One:
    """A calibration data reader over a single batch."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Feeds | None = feeds

    def get_next(self) -> Feeds | None:
        feeds, self._feeds = self._feeds, None
        return feeds


def _quantize_loop_bodies(model: onnx.ModelProto, reduced: bool) -> tuple[onnx.ModelProto, int]:
    """Quantize the products inside loop bodies dynamically; the model, and how many there were.

    The bodies stay in fp32 where ONNX Runtime's quantizer fails on them (branches inside loops).
    """
    import onnx
    from onnxruntime import quantization

    if not any(node.op_type == "Loop" for node in model.graph.node):
        return model, 0
    untouched = model.SerializeToString()
    quantizer = quantization.onnx_quantizer.ONNXQuantizer(
        model, per_channel=True, reduce_range=reduced, mode=quantization.QuantizationMode.IntegerOps, static=False,
        weight_qType=quantization.QuantType.QInt8, activation_qType=quantization.QuantType.QUInt8,
        tensors_range=None, nodes_to_quantize=[],
        nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == "MatMul"],
        op_types_to_quantize=["MatMul"], extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True})
    try:
        quantizer.quantize_model()
    except (AttributeError, ValueError, KeyError):
        return onnx.load_from_string(untouched), 0
    return quantizer.model.model, sum(_bodies_count(quantizer.model.model, "MatMulInteger").values())


def _bodies_count(model: onnx.ModelProto, *kinds: str) -> Counter[str]:
    bodies = (a.g for node in model.graph.node for a in node.attribute if a.HasField("g"))
    return Counter(node.op_type for body in bodies for node in body.node if node.op_type in kinds)


def _facts(model: onnx.ModelProto, dynamic: int, reduced: bool) -> dict[str, Any]:
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    weighted = [n for n in model.graph.node if n.op_type in _WEIGHTED and
                (n.input[1] in constants or makers.get(n.input[1]) == "DequantizeLinear")]
    static = sum(makers.get(n.input[1]) == "DequantizeLinear" for n in weighted)
    total = len(weighted) + sum(_bodies_count(model, "MatMulInteger").values())
    return {"weighted operations in int8": static + dynamic, "weighted operations": total,
            "static": static, "dynamic, in loops": dynamic, "reduced range": reduced}
