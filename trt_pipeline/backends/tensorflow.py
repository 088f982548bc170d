"""TensorFlow itself: every signature frozen and simplified by Grappler, at fp32, bfloat16 or int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trt_pipeline.backends.base import Artifact, Backend, ConversionRequest, Runner, Support
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import freeze, grappler, rebuild
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onednn import availability, rewrite
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.contract import Contract
from trt_pipeline.model.low_precision import LowPrecision


class TensorFlow(Backend):
    """Writes one SavedModel with the original's whole contract; runs wherever TensorFlow does.

    int8 are the quantized operations that TensorFlow's own oneDNN has on x86 processors, so that too
    needs no other library. A signature that cannot be frozen stays as it was, and the description
    says so. All other signatures of the model are kept too, rewritten or not.
    """

    name = "tensorflow"
    precisions = ("fp32", "bf16", "int8")
    kind = "savedmodel"

    def support_impl(self, contract: Contract, precision: str) -> Support:
        why_not = availability.why_not() if precision == "int8" else ""
        return Support(ok=not why_not, reason=why_not)

    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        import tensorflow as tf

        ranges = request.read_ranges() if request.precision == "int8" else {}
        loaded = tf.saved_model.load(str(request.model), tags=list(request.tags))
        rewritten: dict[str, SignatureGraph] = {}
        low: dict[str, LowPrecision] = {}
        description: dict[str, Any] = {}
        for name in request.signatures:
            try:
                function = loaded.signatures[name]
                if request.precision == "int8":
                    rewritten[name], low[name] = _quantize(function, ranges.get(name), request.raised.get(name, ()))
                else:
                    rewritten[name] = _simplify(function, request.precision)
                description[name] = _sizes(rewritten[name], request.precision)
            except Unsupported as error:
                description[name] = {"unchanged": str(error)}
        if not rewritten:
            first = request.signatures[0]
            raise Unsupported(f"no signature could be rewritten; {first}: {description[first]['unchanged']}")
        target.mkdir(parents=True)
        rebuild.write(loaded, rewritten, request.model, request.tags, target / "model")
        return Artifact(kind=self.kind, files=dict.fromkeys(request.signatures, "model"), description=description,
                        low_precision=low)

    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        return SavedModelRunner(contract, folder / next(iter(artifact.files.values())), threads)


def _simplify(function: Any, precision: str) -> SignatureGraph:
    frozen = freeze.freeze(function)
    inputs, outputs = frozen.input_tensors, frozen.output_tensors
    graph_def = grappler.optimize(frozen.graph_def, inputs, outputs)
    if precision == "bf16":
        graph_def = grappler.to_bfloat16(graph_def, inputs, outputs)
    return replace(frozen, graph_def=graph_def)


def _quantize(function: Any, ranges: SignatureRanges | None,
              raised: tuple[str, ...]) -> tuple[SignatureGraph, LowPrecision]:
    if ranges is None:
        raise Unsupported("it has not been calibrated: give it calibration samples")
    return rewrite.rewrite(canonical(function), ranges, frozenset(raised))


def _sizes(frozen: SignatureGraph, precision: str) -> dict[str, int]:
    facts = {"nodes": len(frozen.graph_def.node), "bytes": frozen.graph_def.ByteSize()}
    if precision == "bf16":
        facts["casts to bfloat16"] = grappler.casts_to_bfloat16(frozen.graph_def)
    return facts
