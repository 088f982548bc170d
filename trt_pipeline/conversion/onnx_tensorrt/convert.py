"""One signature to what TensorRT builds an engine of: an ONNX file, its recipe, and what to estimate it by."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import onnx_export
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onnx_precision import half, quantize
from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.conversion.onnx_tensorrt import edges, loop_state, rounded
from trt_pipeline.conversion.onnx_tensorrt.finish import distinguish, finish
from trt_pipeline.engine import generation, recipe
from trt_pipeline.engine.generation import Version
from trt_pipeline.engine.recipe import MODEL, ROUNDED, Recipe
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.model.low_precision import LowPrecision

GROWING = "loop state that grows, which TensorRT may refuse"
"""The fact that names it."""
_UNMEASURED = SignatureRanges(ranges={}, extents={})
# They read floats and compute with none: there is no precision to give them.
_OF_SHAPES = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class Converted:
    """What was written into the folder, beside `MODEL`, and what there is to say of it."""

    recipe: Recipe
    low_precision: LowPrecision | None
    """What of the weighted operations computes in the precision; None for fp32 and tf32, where it is all."""
    facts: dict[str, Any]
    rounded: bool
    """Whether `ROUNDED` lies there; where not, `MODEL` itself rounds as the engine will."""


def convert(graph: SignatureGraph, signature: SignatureContract, folder: Path, *, precision: str,
            version: Version, ranges: SignatureRanges | None = None, raised: frozenset[str] = frozenset(),
            exported: Path | None = None, graft: bool = False) -> Converted:
    """Write `MODEL` (and ``model.onnx.data`` where it is large), ``recipe.json`` and, if need be, `ROUNDED`.

    Args:
        graph: the canonical graph of a signature, or of a part of one.
        signature: the contract of that graph's inputs and outputs.
        folder: where to; it is made.
        precision: fp32, tf32, fp16, bf16 or int8.
        version: of TensorRT; how precision is asked for, and which types there are, goes by it.
        ranges: of the tensors of ``graph``; int8 needs them, and halves without them know of no overflow.
        raised: scoped names of operations that stay in fp32.
        exported: what `onnx_export.export` made of ``graph``, if it did so before; it is left as it is.
        graft: whether the engine is to be built a second time for TensorFlow.

    Raises:
        Unsupported: TensorRT or ONNX has no form for the signature, or nothing of it can be in ``precision``.
    """
    edges.refuse(signature)
    number = ".".join(map(str, version))
    if precision == "bf16" and not generation.has_bfloat16(version):
        raise Unsupported(f"TensorRT {number} has no bf16: 9.0 is the first that has")
    if precision == "int8" and ranges is None:
        raise Unsupported(f"signature {signature.name} has not been calibrated: give it calibration samples")
    if precision not in ("fp32", "tf32") and graph.weights:
        raise Unsupported(f"signature {signature.name}: over 2 GiB of variables are converted at fp32 and tf32 only")
    folder.mkdir(parents=True, exist_ok=True)
    source, facts = exported, dict[str, Any]()
    if source is None:
        source = folder / "fp32" / MODEL
        facts = onnx_export.export(graph, signature, source)
    low, layers = _write(source, folder / MODEL, graph, precision, generation.typed(version), ranges, raised,
                         keep=exported is not None)
    if exported is None:
        shutil.rmtree(source.parent)
    narrowed = finish(folder / MODEL, signature, version)
    if (folder / ROUNDED).exists():
        finish(folder / ROUNDED, signature, version, narrowed)
    made = Recipe(precision=precision, tensorrt=number, typed=generation.typed(version), fp32_layers=layers,
                  narrowed=narrowed, graft=graft)
    recipe.write(made, folder)
    return Converted(made, low, facts | _cautions(folder / MODEL), (folder / ROUNDED).exists())


def _cautions(file: Path) -> dict[str, Any]:
    """What ONNX Runtime computes as it stands in ``file``, and TensorRT does not."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    facts: dict[str, Any] = {}
    if growing := loop_state.lengthened(model):
        facts[GROWING] = growing
    double = [value.name for body in bodies_of(model) for value in body.graph.value_info
              if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE]
    if double:
        facts["float64, which TensorRT computes in float32"] = double
    return facts


def _write(source: Path, target: Path, graph: SignatureGraph, precision: str, typed: bool,
           ranges: SignatureRanges | None, raised: frozenset[str],
           keep: bool) -> tuple[LowPrecision | None, tuple[str, ...]]:
    """Write ``target`` and what it is estimated by, from ``source`` in fp32, which is to be kept or not.

    Returns:
        What computes in the precision, and the nodes that builder flags have to leave in fp32.
    """
    if precision == "int8":
        assert ranges is not None
        return quantize.quantize(source, target, graph, ranges, raised, "tensorrt"), ()
    if precision in ("fp32", "tf32"):
        data = source.with_name(f"{source.name}.data")
        shutil.copy(source, target)
        if data.exists():
            (shutil.copy if keep else shutil.move)(data, target.parent)
        if precision == "tf32":
            _write_tf32(target)
        return None, ()
    kind: half.Half = "fp16" if precision == "fp16" else "bf16"
    return _write_half(source, target, graph, kind, typed, ranges or _UNMEASURED, raised)


def _write_tf32(target: Path) -> None:
    import onnx

    model = onnx.load(str(target), load_external_data=False)  # both files may read the same weights
    quantize.name_nodes(model)
    rounded.to_tf32(model)
    onnx.save(model, str(target.with_name(ROUNDED)))


def _write_half(source: Path, target: Path, graph: SignatureGraph, precision: half.Half, typed: bool,
                ranges: SignatureRanges, raised: frozenset[str]) -> tuple[LowPrecision, tuple[str, ...]]:
    import onnx

    model = onnx.load(str(source))
    large = source.with_name(f"{source.name}.data").exists()
    decision = half.decide(model, source.parent, graph, ranges, raised, precision)
    layers: tuple[str, ...] = ()
    if typed:
        half.to_half(source, target, graph, ranges, raised, precision)
    else:
        distinguish(model)
        layers = tuple(node.name for node in decision.in_fp32 if node.op_type not in _OF_SHAPES)
        quantize.save(model, target, large)
    rounded.to_16_bits(model, decision)
    # Saved once, a large model has its weights in the file beside it, and both can read those.
    quantize.save(model, target.with_name(ROUNDED), large and typed)
    return decision.low.model_copy(update={"others": decision.stayed}), layers

