"""What workers do: one function a stage, JSON in and out, files into the folder it is given."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from trt_pipeline import inspection
from trt_pipeline import vocabulary as vocabularies
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, ConversionRequest, Request, Runner
from trt_pipeline.benchmarking import interleaved
from trt_pipeline.benchmarking.interleaved import Rival
from trt_pipeline.benchmarking.runner_process import Side
from trt_pipeline.calibration import calibrate as calibration
from trt_pipeline.calibration import ranges
from trt_pipeline.calibration.ranges import Method
from trt_pipeline.conversion.tftrt import availability
from trt_pipeline.engine import availability as engine
from trt_pipeline.errors import MissingError
from trt_pipeline.islands import find as islands
from trt_pipeline.islands import trial
from trt_pipeline.islands.islands import Islands
from trt_pipeline.metrics import answers as recorded
from trt_pipeline.model.contract import WARM_UP, Contract
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.parity import estimate, judge, reference
from trt_pipeline.parity.cases import Case
from trt_pipeline.parity.cases import cases as cases_of
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.publish import warm_up
from trt_pipeline.samples.profiles import Profile
from trt_pipeline.samples.profiles import feeds as profile_feeds
from trt_pipeline.samples.store import Samples

Progress = Callable[[int, int], None]
Json = dict[str, Any]
_CALIBRATION_BATCH = 8


def inspect(model: str, tags: list[str], folder: str, progress: Progress) -> Json:
    """Contract and operations of the model at ``model``."""
    return inspection.inspect(Path(model), tuple(tags)).model_dump(mode="json")


def examine_tf_trt(folder: str, progress: Progress) -> Json:
    """What of TF-TRT this interpreter and machine have: an `Availability`."""
    return availability.examine().model_dump(mode="json")


def examine_tensorrt(folder: str, progress: Progress) -> Json:
    """What of TensorRT this interpreter and machine have: a `TensorRT`."""
    return engine.examine().model_dump(mode="json")


def convert(backend_name: str, request: Json, contract: Json, folder: str, progress: Progress) -> Json:
    """Convert one candidate into ``folder``; returns its `Artifact`."""
    artifact = backend(backend_name).convert(
        ConversionRequest.model_validate(request), Contract.model_validate(contract), Path(folder))
    return artifact.model_dump(mode="json")


def calibrate(*, model: str, contract: Json, signatures: list[str], samples: dict[str, str], padding: dict[str, int],
              model_digest: str, samples_digest: str, method: Method, percentile: float, most: int,
              checkpoint: str | None, folder: str, progress: Progress) -> Json:
    """Measure the ranges of the original's tensors on calibration samples; writes ``folder``/ranges.json."""
    found = calibration.calibrate(
        Path(model), Contract.model_validate(contract), _open(samples, padding), signatures, method=method,
        percentile=percentile, model_digest=model_digest, samples_digest=samples_digest,
        checkpoint=Path(checkpoint) if checkpoint else None, most=most, progress=progress)
    Path(folder).mkdir(parents=True, exist_ok=True)
    ranges.write(Path(folder) / ranges.FILE, found)
    return {"count": found.count, "tensors": {name: len(one.extents) for name, one in found.signatures.items()}}


def find_islands(*, model: str, contract: Json, candidate: str, precision: str, low: Json, ranges_file: str,
                 model_digest: str, samples: dict[str, str], padding: dict[str, int], gate: Json, floors: Json,
                 symmetric: bool, per_channel: bool, budget: int, folder: str, progress: Progress) -> Json:
    """Find the nodes with which, left in float32, a candidate would keep its gate; returns its `Islands`."""
    known = Contract.model_validate(contract)
    found = islands.find(
        Path(model), known.tags, candidate, precision,
        {name: LowPrecision.model_validate(one) for name, one in low.items()},
        ranges.read(Path(ranges_file), model_digest), _open(samples, padding), known, Gate.model_validate(gate), floors,
        budget=budget, symmetric=symmetric, per_channel=per_channel, progress=progress)
    return found.model_dump(mode="json")


def try_islands(*, backend_name: str, request: Json, contract: Json, found: Json, samples: dict[str, str],
                padding: dict[str, int], gate: Json, floors: Json, budget: int, folder: str,
                progress: Progress) -> Json:
    """Find the nodes with which, left in float32, a candidate itself keeps its gate; returns its `Islands`."""
    scratch = Path(folder)
    scratch.mkdir(parents=True)
    better = trial.find(
        backend(backend_name), ConversionRequest.model_validate(request), Contract.model_validate(contract),
        Islands.model_validate(found), _open(samples, padding), Gate.model_validate(gate), floors, budget=budget,
        scratch=scratch, progress=progress)
    shutil.rmtree(scratch)
    return better.model_dump(mode="json")


def cover(backend_name: str, model: str, contract: Json, folder: str, progress: Progress) -> Json:
    """What one backend would take over of the model, by signature: a `Coverage`, or why nothing."""
    found = backend(backend_name).coverage_of(Path(model), Contract.model_validate(contract))
    return {name: known if isinstance(known, str) else known.model_dump(mode="json") for name, known in found.items()}


def core_shapes(backend_name: str, artifact: Json, artifact_folder: str, contract: Json, cases: list[Json],
                samples: dict[str, str], padding: dict[str, int], profiles: list[Json], batch_sizes: list[int],
                folder: str, progress: Progress) -> Json:
    """Shapes and dtypes that the cores of a candidate's signatures are fed, where those are cut out of TensorFlow."""
    chosen, made, known = backend(backend_name), Artifact.model_validate(artifact), Contract.model_validate(contract)
    asked = TypeAdapter(tuple[Profile, ...]).validate_python(profiles)
    partly = [case for case in map(Case.model_validate, cases) if case.signature in made.core]
    cut = build_requests(known, partly, _open(samples, padding), asked, batch_sizes)
    return {"requests": [[name, {key: [str(value.dtype), *value.shape] for key, value in feeds.items()}]
                         for name, feeds in chosen.core_requests(made, Path(artifact_folder), known, cut)]}


def finalize(*, backend_name: str, artifact: Json, artifact_folder: str, contract: Json, cases: list[Json],
             samples: dict[str, str], calibration: dict[str, str], padding: dict[str, int], profiles: list[Json],
             batch_sizes: list[int], folder: str, progress: Progress, core_shapes: Json | None = None,
             kept: str | None = None) -> Json:
    """Build a converted candidate for this machine's GPU into ``folder``; returns its `Artifact`.

    Args:
        batch_sizes: those that it will be timed at.
        core_shapes: what `core_shapes` found, of a candidate that has cores.
        kept: folder of what one build leaves for the next.

    Raises:
        MissingError: this machine cannot build it.
    """
    chosen, made, known = backend(backend_name), Artifact.model_validate(artifact), Contract.model_validate(contract)
    if why := chosen.why_not_finalize(made):
        raise MissingError(f"{backend_name} cannot be finalized here: {why}")
    asked = TypeAdapter(tuple[Profile, ...]).validate_python(profiles)
    whole = [case for case in map(Case.model_validate, cases) if case.signature not in made.core]
    requests = build_requests(known, whole, _open(samples, padding), asked, batch_sizes)
    requests += [(name, {key: np.zeros(shape, kind) for key, (kind, *shape) in feeds.items()})
                 for name, feeds in (core_shapes or {"requests": []})["requests"]]
    shown = calibration_requests(known, _open(calibration, padding))
    chosen.scratch = Path(kept) if kept else None
    done = chosen.finalize(made, Path(artifact_folder), known, requests, shown, asked, Path(folder), progress)
    return done.model_dump(mode="json")


def graft(backend_name: str, artifact: Json, artifact_folder: str, contract: Json, model: str, folder: str,
          progress: Progress) -> Json:
    """Put the engines of a finalized candidate into the original ``model``; returns its `Artifact` with both forms."""
    done = backend(backend_name).graft(Artifact.model_validate(artifact), Path(artifact_folder),
                                       Contract.model_validate(contract), Path(model), Path(folder))
    return done.model_dump(mode="json")


def build_requests(contract: Contract, cases: list[Case], samples: dict[str, Samples],
                   profiles: tuple[Profile, ...], batch_sizes: Sequence[int]) -> list[Request]:
    """What an engine is shown before it is built: each case, and each signature at each of ``batch_sizes`` and in
    the shapes of ``profiles``."""
    shown = [(case.signature, samples[case.signature].take(case.rows, case.width)) for case in cases]
    for name in dict.fromkeys(case.signature for case in cases):
        if contract.signatures[name].batched and contract.signatures[name].fixed_batch is None:
            shown += [(name, samples[name].take([row % len(samples[name]) for row in range(size)]))
                      for size in batch_sizes]
    requests = [(name, feeds | contract.signatures[name].left_out(feeds)) for name, feeds in shown]
    for name in dict.fromkeys(case.signature for case in cases):
        first = next(feeds for signature, feeds in requests if signature == name)
        requests += [(name, feeds) for feeds in profile_feeds(profiles, contract.signatures[name], first)]
    return requests


def calibration_requests(contract: Contract, samples: dict[str, Samples]) -> Iterator[Request]:
    """Every calibration sample, in batches that all have one shape: TensorRT's calibrator aborts on another."""
    for name, opened in samples.items():
        size = contract.signatures[name].fixed_batch or min(_CALIBRATION_BATCH, len(opened))
        width = int(opened.lengths.max()) if opened.padded else None
        for rows in opened.batches(size):
            yield name, opened.take(rows, width)


def write_stand_in(backend_name: str, artifact: Json, artifact_folder: str, folder: str, progress: Progress) -> None:
    """Write the SavedModel into ``folder`` that is the artifact's graph without what this backend put in."""
    backend(backend_name).write_stand_in(Artifact.model_validate(artifact), Path(artifact_folder), Path(folder),
                                         "surgery")


def refer(model: str, contract: Json, signatures: list[str], samples: dict[str, str], padding: dict[str, int],
          batch_size: int, max_batch_size: int, folder: str, progress: Progress) -> Json:
    """Store the original's outputs on all cases in ``folder``; returns their `Reference`."""
    known = Contract.model_validate(contract)
    opened = _open(samples, padding)
    planned = [case for name in signatures
               for case in cases_of(known.signatures[name], opened[name], batch_size, max_batch_size)]
    made = reference.make(Path(model), known, planned, opened, Path(folder), progress)
    return made.model_dump(mode="json")


def measure_noise(model: str, contract: Json, reference_index: Json, reference_folder: str, samples: dict[str, str],
                  padding: dict[str, int], folder: str, progress: Progress) -> Json:
    """Noise floors of the original: signature -> output -> `NoiseFloor`."""
    floors = reference.measure_noise(Path(model), Contract.model_validate(contract),
                                     Reference.model_validate(reference_index), _open(samples, padding),
                                     Path(reference_folder), progress)
    return {signature: {name: floor.model_dump(mode="json") for name, floor in by_name.items()}
            for signature, by_name in floors.items()}


def validate(*, backend_name: str, precision: str, artifact: Json, artifact_folder: str, contract: Json,
             reference_index: Json, reference_folder: str, samples: dict[str, str], padding: dict[str, int],
             gate: Json, folder: str, progress: Progress, pending: str = "",
             vocabulary: dict[str, str] | None = None, answers: bool = False) -> Json:
    """Judge one candidate, or what stands in for it where it cannot run here; returns its `Verdict`.

    Args:
        answers: keep its outputs on the samples in ``folder``, for its metrics (`score`).
        pending: why it could not be built here; by default it is asked whether it can run.
        vocabulary: input or output -> file of its pieces (`vocabulary.read`), for the samples that are shown.
    """
    words = vocabularies.read_all(vocabulary or {})
    chosen, made, known = backend(backend_name), Artifact.model_validate(artifact), Contract.model_validate(contract)
    against = Reference.model_validate(reference_index), Path(reference_folder), _open(samples, padding)

    def recording(runner: Runner) -> Runner:
        return recorded.Recorded(runner, against[0].cases, Path(folder)) if answers else runner

    if pending := pending or chosen.why_pending(made):
        verdict = estimate.judge_stand_ins(chosen, made, Path(artifact_folder), known, *against,
                                           Gate.model_validate(gate), precision, pending, progress, vocabularies=words,
                                           recording=recording)
        if verdict.estimate and verdict.estimate.surgery and not verdict.estimate.surgery.passed:
            # Of a graph that is wrong.
            shutil.rmtree(folder, ignore_errors=True)
    else:
        with recording(chosen.load(made, Path(artifact_folder), known)) as runner:
            verdict = judge.judge(runner, *against, Gate.model_validate(gate), precision, progress, words)
    return verdict.model_dump(mode="json")


def score(metric: Json, answers: str, cases: list[Json], folder: str, progress: Progress) -> float:
    """What a metric makes of the outputs in ``answers``; may be NaN or infinite, and raise whatever its function does.

    Args:
        metric: a `metrics.metric.Metric`.
        cases: those of the reference, in their order.
    """
    from trt_pipeline.metrics.metric import Metric  # with it, the configuration's own imports

    return Metric.model_validate(metric).compute(Path(answers), [Case.model_validate(case) for case in cases])


def benchmark(original: Json, candidate: Json, signatures: list[str], batch_sizes: list[int], duration_s: float,
              folder: str, progress: Progress, rivals: Sequence[Json] = ()) -> Json:
    """Time one candidate against the original, as long as it is not clearly slower than ``rivals``; returns a
    `BenchmarkResult`."""
    sides = Side.model_validate(original), Side.model_validate(candidate)
    contracts = {name: sides[0].contract.signatures[name] for name in signatures}
    result = interleaved.compare(*sides, contracts, tuple(batch_sizes), duration_s, progress,
                                 [Rival.model_validate(rival) for rival in rivals])
    return result.model_dump(mode="json")


def write_warm_up(name: str, contract: Json, signatures: list[str], samples: dict[str, str], padding: dict[str, int],
                  batch_sizes: list[int], profiles: list[Json], folder: str, progress: Progress) -> Json:
    """Write what TensorFlow Serving warms a version of model ``name`` up with; returns how many requests there are."""
    known, opened = Contract.model_validate(contract), _open(samples, padding)
    asked = TypeAdapter(tuple[Profile, ...]).validate_python(profiles)
    requests = {signature: warm_up.requests(known.signatures[signature], opened[signature], batch_sizes, asked)
                for signature in signatures}
    return {"requests": warm_up.write(Path(folder) / WARM_UP, name, requests, known.signatures)}


def _open(samples: dict[str, str], padding: dict[str, int]) -> dict[str, Samples]:
    return {name: Samples(Path(folder), padding) for name, folder in samples.items()}
