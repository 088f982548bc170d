"""TF-TRT: TensorRT engines inside a SavedModel, converted on any machine, built on the GPU that serves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.backends.base import (
    Artifact,
    Backend,
    ConversionRequest,
    Progress,
    Request,
    Runner,
    StandIn,
    Support,
)
from trt_pipeline.backends.built_runner import BuiltRunner
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.calibration import ranges
from trt_pipeline.conversion import rebuild
from trt_pipeline.conversion.freeze import LARGEST_FROZEN_BYTES
from trt_pipeline.conversion.tftrt import availability, build, options, segment, stand_in
from trt_pipeline.conversion.tftrt.convert import Segmented
from trt_pipeline.conversion.tftrt.convert import convert as convert_signature
from trt_pipeline.conversion.tftrt.options import Options
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import Contract
from trt_pipeline.model.coverage import Coverage
from trt_pipeline.samples.profiles import Profile

# Frozen, every signature and every segment has weights of its own, and TensorFlow takes some 25
# times their size to load them: beyond this they stay variables.
_FREEZE_UP_TO_BYTES = 2**28
_NOT_CALIBRATED = "TensorRT's own calibrator runs on a GPU only, so there are no int8 ranges yet"


class TfTrt(Backend):
    """Writes one SavedModel with the original's whole contract and TensorRT segments in it.

    A signature of which TensorRT takes nothing stays as it was, and the description says so. The
    engines are not built: `finalize` does that, on the GPU that is to serve the model.
    """

    name = "tf-trt"
    precisions = ("fp32", "fp16", "int8")
    kind = "tensorrt-savedmodel"
    finalizes = True
    symmetric = True
    per_channel = False

    def support_impl(self, contract: Contract, precision: str) -> Support:
        why_not = availability.examine().why_not_convert
        return Support(ok=not why_not, reason=why_not)

    def check_options(self, given: dict[str, Any]) -> None:
        options.parse(given)

    def uses_ranges(self, precision: str, given: dict[str, Any]) -> bool:
        return precision == "int8" and options.parse(given).calibrator == "minmax"

    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        import tensorflow as tf

        chosen = options.parse(request.options)
        keep_variables = _keeps_variables(chosen, contract, request)
        content = digest.of_folder(request.model)
        loaded = tf.saved_model.load(str(request.model), tags=list(request.tags))
        known = ranges.read(request.ranges, content) if request.ranges else None
        prefix = digest.of_value([
            content, request.precision, request.options, request.ranges and digest.of_file(request.ranges),
            request.raised])[:10]
        made: dict[str, Segmented] = {}
        unchanged: dict[str, str] = {}
        for number, name in enumerate(request.signatures):
            try:
                made[name] = convert_signature(
                    loaded.signatures[name], request.precision, f"{prefix}_{number}", keep_variables=keep_variables,
                    calibrator=chosen.calibrator, profile_strategy=chosen.profile_strategy,
                    ranges=known.signatures.get(name) if known else None,
                    raised=frozenset(request.raised.get(name, ())))
            except Unsupported as error:
                unchanged[name] = str(error)
        if not made:
            raise Unsupported("; ".join(f"signature {name}: {why}" for name, why in unchanged.items()))
        target.mkdir(parents=True)
        rebuild.write(loaded, {name: one.graph for name, one in made.items()}, request.model, request.tags,
                      target / "model")
        _check_engines(target / "model", request.tags, made)
        return Artifact(
            kind=self.kind, files=dict.fromkeys(request.signatures, "model"),
            description={name: _described(made[name]) if name in made
                         else {"unchanged": unchanged[name]} for name in request.signatures},
            coverage={name: one.coverage for name, one in made.items()},
            low_precision={name: one.low_precision for name, one in made.items() if one.low_precision},
            unestimated=_NOT_CALIBRATED if request.precision == "int8" and chosen.calibrator == "tensorrt" else "")

    def why_pending(self, artifact: Artifact) -> str:
        return availability.examine().why_not_finalize

    def finalize(self, artifact: Artifact, folder: Path, contract: Contract, requests: Sequence[Request],
                 calibration: Iterable[Request], profiles: tuple[Profile, ...], target: Path,
                 progress: Progress) -> Artifact:
        model = next(iter(artifact.files.values()))
        target.mkdir(parents=True)
        made = build.build(folder / model, contract.tags, requests, calibration, target / model, progress)
        unreached = {"engines that no sample reached": ", ".join(made.unreached)} if made.unreached else {}
        return artifact.model_copy(update={"built": {**availability.examine().built_with(),
                                                     "engines": str(made.engines), **unreached}})

    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        runner = BuiltRunner if artifact.built else SavedModelRunner
        return runner(contract, folder / next(iter(artifact.files.values())), threads)

    def write_stand_in(self, artifact: Artifact, folder: Path, target: Path, kind: StandIn,
                       magnitudes: Path | None = None) -> None:
        stand_in.write(folder / next(iter(artifact.files.values())), target, kind, magnitudes)

    def magnitudes(self, file: Path) -> dict[str, float]:
        return stand_in.read_magnitudes(file)

    def coverage_of(self, model: Path, contract: Contract) -> dict[str, Coverage | str]:
        import tensorflow as tf

        if why_not := availability.examine().why_not_convert:
            raise Unsupported(why_not)
        loaded = tf.saved_model.load(str(model), tags=list(contract.tags))
        everything = ConversionRequest(model=model, tags=contract.tags, signatures=tuple(contract.signatures),
                                       precision="fp32")
        keep_variables = _keeps_variables(Options(), contract, everything)
        found: dict[str, Coverage | str] = {}
        for name in contract.signatures:
            try:
                found[name] = convert_signature(loaded.signatures[name], "fp32", "inspected",
                                                keep_variables=keep_variables).coverage
            except Unsupported as error:
                found[name] = str(error)
        return found


def _keeps_variables(chosen: Options, contract: Contract, request: ConversionRequest) -> bool:
    """Whether weights stay variables.

    Raises:
        Unsupported: they must be frozen and exceed what a graph can hold.
    """
    # Every signature may come to hold all of them, outside its segments and inside.
    frozen = contract.variable_bytes * len(request.signatures)
    must_freeze = chosen.freeze == "always" or request.precision == "int8"
    if must_freeze and frozen > LARGEST_FROZEN_BYTES:
        raise Unsupported(f"{len(request.signatures)} signatures with {contract.variable_bytes / 2**30:.1f} GiB of "
                          f"variables do not fit into one frozen graph, which ends at 2 GiB"
                          + (": int8 needs one" if request.precision == "int8" else ": set freeze to auto or never"))
    return not must_freeze and (chosen.freeze == "never" or frozen > _FREEZE_UP_TO_BYTES)


def _check_engines(model: Path, tags: tuple[str, ...], made: dict[str, Segmented]) -> None:
    """What was saved must hold what was made: a pass or a save that dropped an engine did so without a word."""
    written = len(segment.engines(saved_model.read_meta_graph(model, tags).graph_def))
    expected = sum(one.coverage.engines for one in made.values())
    if written < expected:
        raise RuntimeError(f"{model} holds {written} TensorRT segments where {expected} were made")


def _described(one: Segmented) -> dict[str, Any]:
    facts: dict[str, Any] = {"engines": one.coverage.engines}
    if one.low_precision:
        facts["convolutions in int8"] = len(one.low_precision.nodes)
    return facts
