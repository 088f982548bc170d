"""TensorRT through ONNX: each signature, or the numeric core of it, as one engine."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_pipeline.backends.base import (
    CLIENT,
    Artifact,
    Backend,
    ConversionRequest,
    Progress,
    Request,
    Runner,
    Stage,
    StandIn,
)
from trt_pipeline.backends.built_runner import BuiltRunner
from trt_pipeline.backends.split_runner import OnnxCore, SplitRunner, before
from trt_pipeline.engine import availability, build, generation, options, recipe, timing_cache
from trt_pipeline.engine import profiles as engine_profiles
from trt_pipeline.engine.build import Built
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.runner import EngineRunner
from trt_pipeline.environment import gpu_models
from trt_pipeline.errors import MissingError, Unsupported
from trt_pipeline.files import folder_of, link_tree
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.operations import Operation
from trt_pipeline.samples.profiles import Profile

if TYPE_CHECKING:
    from trt_pipeline.conversion.freeze import SignatureGraph
    from trt_pipeline.conversion.split.split import Split

# No signature's folder has this name: a plus would be quoted.
_GRAFT = "engines+tensorflow"
# Under which of these names an environment has TensorRT.
_PACKAGES = ("tensorrt", "tensorrt-cu11", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-cu12-bindings",
             "tensorrt-cu13-bindings")


@dataclass(frozen=True)
class _Prepared:
    """A signature before it has a precision."""

    parts: Split
    exported: Path | None
    """Its core as ONNX in fp32, where that is kept."""


class TensorRT(Backend):
    """Writes ONNX files that TensorRT builds engines from, on a GPU; without one they are judged on ONNX Runtime.

    What TensorRT cannot have at the begin or the end of a signature (strings, tables) stays in TensorFlow.
    A finished candidate has two forms: plans, which Triton serves, and the original with the same engines
    grafted in, which TensorFlow Serving serves where it has TensorRT.
    """

    name = "tensorrt"
    precisions = ("fp32", "tf32", "fp16", "bf16", "int8")
    kind = "tensorrt-plan"
    also = ("tensorrt-savedmodel",)
    finalizes = True
    servable_unbuilt = False
    grafts = True
    symmetric = True
    stands_in_for_itself = True

    def __init__(self) -> None:
        self._kept: dict[str, _Prepared] = {}

    def check_options(self, given: dict[str, Any]) -> None:
        options.parse(given)

    def complete_options(self, given: dict[str, Any], libraries: Mapping[str, str]) -> dict[str, Any]:
        installed = next((libraries[name] for name in _PACKAGES if name in libraries), generation.DEFAULT)
        # As in 8.6.1.post1: what follows the numbers makes no other version.
        numbers = re.match(r"[0-9]+(\.[0-9]+)*", installed)
        version = numbers.group() if numbers else generation.DEFAULT
        return {"tensorrt": version} | {name: value for name, value in given.items() if value is not None}

    def runs_apart(self, stage: Stage, artifact: Artifact | None) -> bool:
        # Its own interpreter has TensorRT, and need have neither TensorFlow nor ONNX Runtime.
        if artifact and artifact.kind in self.also:
            return False
        return stage in ("finalize", "benchmark") or (stage == "validate" and bool(artifact and artifact.built))

    def uses_ranges(self, precision: str, given: dict[str, Any]) -> bool:
        return precision in ("fp16", "bf16", "int8")

    def blocking(self, signature: SignatureContract, operations: Iterable[Operation]) -> list[tuple[Operation, str]]:
        from trt_pipeline.conversion import onnx_support

        return [(operation, f"{why}: cut off where the signature begins or ends with it, else replace it in the model")
                for operation, why in onnx_support.without_form(operations)]

    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        import tensorflow as tf

        from trt_pipeline.conversion.onnx_tensorrt import convert
        from trt_pipeline.conversion.onnx_tensorrt.convert import GROWING
        from trt_pipeline.conversion.split import host, wording

        chosen = options.parse(request.options)
        version = _version(chosen)
        known = request.read_ranges() if request.precision == "int8" or request.ranges else {}
        load = functools.cache(lambda: tf.saved_model.load(str(request.model), tags=list(request.tags)))
        files: dict[str, str] = {}
        facts: dict[str, dict[str, Any]] = {}
        low: dict[str, LowPrecision] = {}
        cores: dict[str, SignatureContract] = {}
        notes: list[str] = []
        for name in request.signatures:
            folder = target / folder_of(name)
            prepared = self._prepared(contract.signatures[name], load, folder)
            parts, ranges = prepared.parts, known.get(name)
            made = convert.convert(
                parts.core, parts.contract, folder, precision=request.precision, version=version,
                ranges=parts.ranges(ranges) if ranges else None, raised=frozenset(request.raised.get(name, ())),
                exported=prepared.exported, graft=chosen.graft != "never" and generation.is_tensorflows(version))
            facts[name] = made.facts | {"for TensorRT": made.recipe.tensorrt,
                                        "precision by": "types" if made.recipe.typed else "flags"}
            notes += [f"{name}: {key}: {', '.join(value)}" for key, value in made.facts.items() if key == GROWING]
            if made.low_precision:
                low[name] = made.low_precision
            if not parts.whole:
                host.write_host(load(), parts, folder / host.HOST)
                cores[name] = parts.contract
                facts[name][CLIENT] = wording.for_clients(parts, load())
                notes += [f"{name}: stays in TensorFlow, {line}" for line in wording.on_the_host(parts)]
            files[name] = f"{folder.name}/{recipe.MODEL}"
        options.write(chosen, target)
        return Artifact(kind=self.kind, files=files, description=facts, low_precision=low, core=cores,
                        stand_ins=_stand_ins(request.precision, version), notes=tuple(notes))

    def _prepared(self, signature: SignatureContract, load: Callable[[], Any], folder: Path) -> _Prepared:
        """A signature of the model that ``load`` loads, cut; as it was kept, where conversions of it follow another."""
        from trt_pipeline.conversion import onnx_export
        from trt_pipeline.conversion.split import split

        if signature.name in self._kept:
            return self._kept[signature.name]
        try:
            parts = split.split(_whole(load().signatures[signature.name]), signature)
        except Unsupported as error:
            raise Unsupported(f"{error}; where there are others, list them under 'signatures'") from None
        if self.scratch is None:
            return _Prepared(parts, None)
        exported = self.scratch / folder.name / recipe.MODEL
        onnx_export.export(parts.core, parts.contract, exported)
        self._kept[signature.name] = _Prepared(parts, exported)
        return self._kept[signature.name]

    def why_pending(self, artifact: Artifact) -> str:
        if artifact.kind in self.also:
            from trt_pipeline.conversion.tftrt import availability as tftrt

            return tftrt.examine().why_not_finalize
        if artifact.built:
            return _missing_here()
        return _missing_here() or "its engines are not built yet: trt-pipeline finalize CANDIDATE --reference MODEL"

    def why_not_finalize(self, artifact: Artifact) -> str:
        if artifact.core and importlib.util.find_spec("tensorflow") is None:
            return (f"a part of signature {next(iter(artifact.core))} stays in TensorFlow, which {sys.executable} "
                    f"lacks: {sys.executable} -m pip install tensorflow")
        return _missing_here()

    def stand_ins(self, artifact: Artifact, precision: str) -> frozenset[StandIn]:
        if artifact.built:  # what its engines say, nothing else does
            raise MissingError(f"{self.name} cannot be judged here: {self.why_pending(artifact)}")
        return super().stand_ins(artifact, precision)

    def stand_in(self, artifact: Artifact, folder: Path, contract: Contract, kind: StandIn) -> Runner | None:
        def core(place: Path) -> OnnxCore:
            rounded = place / recipe.ROUNDED
            file = rounded if kind == "estimate" and rounded.exists() else place / recipe.MODEL
            return OnnxCore(file, recipe.read(place).narrowed)

        return SplitRunner(contract, _folders(artifact, folder), open_core=core)

    def core_requests(self, artifact: Artifact, folder: Path, contract: Contract,
                      requests: Iterable[Request]) -> Iterator[Request]:
        folders = _folders(artifact, folder)
        return before(contract, {name: folders[name] for name in artifact.core}, requests)

    def finalize(self, artifact: Artifact, folder: Path, contract: Contract, requests: Sequence[Request],
                 calibration: Iterable[Request], profiles: tuple[Profile, ...], target: Path,
                 progress: Progress) -> Artifact:
        chosen = options.read(folder)
        files: dict[str, str] = {}
        served: dict[str, list[dict[str, Any]]] = {}
        facts, notes = dict(artifact.description), list(artifact.notes)
        built: Built | None = None
        cache = self.scratch / recipe.TIMING_CACHE if self.scratch else None
        for number, (name, source) in enumerate(_folders(artifact, folder).items()):
            place = target / source.name
            edges = artifact.core.get(name, contract.signatures[name])
            shapes = [{key: value.shape for key, value in feeds.items()} for asked, feeds in requests if asked == name]
            made = engine_profiles.make({key: tensor.shape for key, tensor in edges.inputs.items()}, shapes, profiles)
            link_tree(source, place)
            built = build.build(source, recipe.read(source), made, place, chosen, cache, inputs=tuple(edges.inputs),
                                outputs=tuple(edges.outputs))
            if cache:
                timing_cache.keep(place / recipe.TIMING_CACHE, cache)
            files[name] = f"{place.name}/{recipe.PLAN}"
            served[name] = built.profiles
            facts[name] = facts[name] | {"layers": built.counts}
            notes += [f"{name}: {line}" for line in built.notes]
            progress(number + 1, len(artifact.files))
        assert built
        options.write(chosen, target)
        # Validated anew: profiles are plain lists so far.
        return Artifact.model_validate(artifact.model_dump() | {
            "files": files, "profiles": served, "description": facts, "notes": notes, "built": built.built_on.facts})

    def graft(self, artifact: Artifact, folder: Path, contract: Contract, model: Path, target: Path) -> Artifact:
        from trt_pipeline.conversion import graft

        folders = _folders(artifact, folder)
        without = [name for name, place in folders.items() if not (place / recipe.GRAFT_PLAN).exists()]
        if without:
            version = artifact.built.get("tensorrt", "")
            raise Unsupported(f"signature {without[0]} has no engine for TensorFlow: the option graft is never, or "
                              f"no TensorFlow has TensorRT {version}")
        recipes = {name: recipe.read(place) for name, place in folders.items()}
        cores = {name: graft.Grafted(engine=place / recipe.GRAFT_PLAN, precision=recipes[name].precision,
                                     narrowed=recipes[name].narrowed) for name, place in folders.items()}
        for place in (*folders.values(), *(options.file(folder),)):
            link_tree(place, target / place.name)
        graft.graft(model, contract.tags, cores, target / _GRAFT)
        return artifact.model_copy(update={"also": {"tensorrt-savedmodel": dict.fromkeys(artifact.files, _GRAFT)}})

    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        if artifact.kind in self.also:
            return BuiltRunner(contract, folder / next(iter(artifact.files.values())), threads)
        chosen = options.read(folder)
        return SplitRunner(contract, _folders(artifact, folder), threads, lambda place: EngineRunner(
            place / recipe.PLAN, recipe.read(place).narrowed, cuda_graphs=chosen.cuda_graphs))


def _stand_ins(precision: str, version: generation.Version) -> tuple[StandIn, ...]:
    if precision == "fp32":
        return ("surgery",)
    # Where types or Q/DQ in the graph say the precision, float32 cannot be had of it; tf32 is no type.
    inside = precision == "int8" or (precision != "tf32" and generation.typed(version))
    return ("estimate",) if inside else ("surgery", "estimate")


def _missing_here() -> str:
    if not gpu_models():
        return "there is no NVIDIA GPU here: finalize on the machine that will serve the model"
    return availability.examine().why_not_build


def _version(chosen: Options) -> generation.Version:
    return generation.parse_version(chosen.tensorrt or generation.DEFAULT)


def _folders(artifact: Artifact, folder: Path) -> dict[str, Path]:
    return {name: (folder / file).parent for name, file in artifact.files.items()}


def _whole(function: Any) -> SignatureGraph:
    """The graph to cut and convert: canonical, as `conversion.graft` cuts it again; too large for that, as it is."""
    from trt_pipeline.conversion import freeze
    from trt_pipeline.conversion.canonical import canonical

    return freeze.beside(function) if freeze.fits_no_graph(function) else canonical(function)
