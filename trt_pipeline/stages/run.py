"""One run: every stage in a worker, its result kept; then select, publish, report."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trt_pipeline import candidate, digest, report
from trt_pipeline.backends import backend as make_backend
from trt_pipeline.backends.base import Artifact, Stage
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.calibration import ranges
from trt_pipeline.config.schema import Config
from trt_pipeline.environment import environment, gpu_models
from trt_pipeline.errors import (
    ConfigError,
    InputError,
    MissingError,
    ModelChangedError,
    ModelError,
    OutputError,
    PipelineError,
    SamplesError,
    Unsupported,
)
from trt_pipeline.finalizing import kit
from trt_pipeline.inspection import Inspection
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands.islands import Islands
from trt_pipeline.model.contract import WARM_UP
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.parity.reference import Reference
from trt_pipeline.publish import publish, servers
from trt_pipeline.report import wording
from trt_pipeline.results import CandidateResult, StageCost, Trade
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import as_json
from trt_pipeline.samples.store import Samples
from trt_pipeline.stages import jobs, lock, plan
from trt_pipeline.stages.cache import Entry
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.observer import Observer, Silent
from trt_pipeline.stages.plan import SampleSet
from trt_pipeline.stages.run_folder import RunFolder
from trt_pipeline.stages.worker import WorkerFailed

# Parity of the samples themselves is judged in batches of this many; corners have their own sizes.
_VALIDATION_BATCH = 8
ARTIFACTS = Path("artifacts")
Raised = dict[str, tuple[str, ...]]


def run(config: Config, *, backends: list[str] | None = None, precisions: list[str] | None = None,
        output: Path = ARTIFACTS, fresh: bool = False, publishing: bool = True, again: bool = False,
        observer: Observer | None = None) -> RunResult:
    """Judge every candidate of ``config`` and publish the best for each target.

    Args:
        backends, precisions: limit the candidates to these; empty or None for no limit.
        output: where run folders and kept stage results go, below the model's name.
        fresh: do every stage again, whatever has been kept.
        publishing: False only judges (a sweep).
        again: publish even what is the newest version already.

    Raises:
        InputError: config, model, samples or an output folder is wrong; one line says what.
        MissingError: the machine lacks what a stage needs.
    """
    chosen = plan.candidates(config, backends or [], precisions or [])
    model_digest = plan.check_model(config)
    if publishing:
        publish.check(config)
    root = output / config.name
    with lock.exclusive(root, config.name), _writing_to(root):
        return _Run(config, chosen, model_digest, root, fresh, observer or Silent()).execute(publishing, again)


@dataclass
class _Row:
    """A candidate while it is being judged."""

    name: str
    backend: str
    precision: str
    stage: str = "convert"
    """Where it is, for the reason of a failure."""
    artifact: Artifact | None = None
    files: Path | None = None
    size: int = 0
    verdict: Verdict | None = None
    benchmark: BenchmarkResult | None = None
    trade: Trade | None = None
    costs: list[StageCost] = field(default_factory=list)

    def result(self, known: dict[str, Any]) -> CandidateResult:
        """What is reported of it, with what is ``known`` besides."""
        return CandidateResult(
            name=self.name, backend=self.backend, precision=self.precision, artifact=self.artifact,
            size_bytes=self.size, verdict=self.verdict, benchmark=self.benchmark, islands=self.trade,
            stages=tuple(self.costs), **known)


class _Run:
    """The state of one execution; each method is a stage or a few."""

    def __init__(self, config: Config, chosen: tuple[str, ...], model_digest: str, root: Path, fresh: bool,
                 observer: Observer) -> None:
        self.config, self.chosen, self.model_digest = config, chosen, model_digest
        self.observer, self.root = observer, root
        self.executor = Executor(config, model_digest, root, fresh, observer)
        self.files: dict[str, Path] = {}
        self.shared: list[StageCost] = []
        self.interpreters = plan.interpreters(config, chosen)
        self.ranges = plan.given_ranges(config, model_digest)
        self.uncalibrated = ""
        self.pinned = plan.pinned_islands(config, model_digest)

    def execute(self, publishing: bool, again: bool) -> RunResult:
        started = time.monotonic()
        try:
            arguments = {"model": str(self.config.model), "tags": self.config.tags}
            entry, cost = self.executor.stage("inspect", "inspect", jobs.inspect, arguments, {})
            self.shared.append(cost)
        except WorkerFailed as error:
            raise ModelError(f"{self.config.model} cannot be read: {error}") from None
        self.contract = Inspection.model_validate(entry.value).contract
        self.signatures = plan.signatures(self.config, self.contract)
        stores = self.executor.cache.root
        validation = plan.open_samples(self.config, self.contract, self.signatures, "validation", stores)
        assert validation
        self.validation: SampleSet = validation
        self.calibration = plan.open_samples(self.config, self.contract, self.signatures, "calibration", stores)
        if self.calibration and set(self.calibration.folders.values()) & set(self.validation.folders.values()):
            raise SamplesError("calibration and validation samples are the same data: int8 would be judged on what "
                               "it was fitted to")
        # Only now: bad input leaves no run behind.
        folder = self.executor.folder = RunFolder(self.root)
        folder.write("run.json", self._facts(folder.path.name))
        self.reference, self.reference_folder = self._refer()
        self.original: tuple[Artifact, Path] | None = None
        results = []
        for name in plan.names(self.chosen):
            result, files = self._candidate(name)
            folder.write_candidate(result, files)
            if result.status == "pending-gpu" and files:
                self._pack(folder.candidate(result.name), result, files)
            self.files |= {result.name: files} if files else {}
            results.append(result)
            self.observer.candidate(result)
        candidates = tuple(results)
        publications = publish.publish_all(self.config, self.contract, self.signatures, candidates, self.files,
                                           folder.path.name, self.model_digest, again, self._real_samples(),
                                           self._write_warm_up) if publishing else ()
        finished = RunResult(
            name=self.config.name, run_id=folder.path.name, folder=str(folder.path), model=str(self.config.model),
            model_digest=self.model_digest, samples_digests=self._samples_digests(),
            config=self.config.model_dump(mode="json"), environment=environment(), contract=self.contract,
            noise=self.reference.outputs, stages=tuple(self.shared), candidates=candidates, publications=publications,
            objective=self.config.objective, seconds=time.monotonic() - started)
        folder.write("report.json", finished.model_dump(mode="json"))
        report.write_html(finished, folder.path / "report.html")
        return finished

    def _refer(self) -> tuple[Reference, Path]:
        arguments = {"model": str(self.config.model), "contract": self.contract.model_dump(mode="json"),
                     "signatures": self.signatures, **self._sample_arguments(), "batch_size": _VALIDATION_BATCH,
                     "max_batch_size": self.config.max_batch_size}
        try:
            entry, cost = self.executor.stage("original", "reference", jobs.refer, arguments, {
                "samples": self.validation.digest, "signatures": self.signatures, "padding": self.config.padding,
                "batch": [_VALIDATION_BATCH, self.config.max_batch_size]})
        except WorkerFailed as error:
            raise ModelError(f"the original does not run on its samples: {error}") from None
        self.shared.append(cost)
        reference = Reference.model_validate(entry.value)
        return reference.with_noise(self._measure_noise(reference, entry)), entry.files

    def _measure_noise(self, reference: Reference, made: Entry) -> dict[str, dict[str, Any]]:
        """The original's noise floors; a run goes on without them, with the smallest floor there is."""
        try:
            entry, cost = self.executor.stage("original", "noise", jobs.measure_noise, {
                "model": str(self.config.model), "contract": self.contract.model_dump(mode="json"),
                "reference_index": made.value, "reference_folder": str(made.files), **self._sample_arguments(),
            }, {"reference": made.folder.name})
        except WorkerFailed as error:
            unknown = NoiseFloor(without=f"not measured: {error}")
            return {signature: dict.fromkeys(by_name, unknown) for signature, by_name in reference.outputs.items()}
        self.shared.append(cost)
        floors: dict[str, dict[str, Any]] = entry.value
        return floors

    def _candidate(self, name: str) -> tuple[CandidateResult, Path | None]:
        """Convert, validate and benchmark; whatever goes wrong becomes the row's status and reason."""
        backend, _, precision = name.partition("/")
        shown = backend if backend == "original" else name
        row = _Row(shown, backend, precision)
        known: dict[str, Any] = {"interpreter": self.interpreters.get(backend),
                                 "precision_floor": self.config.precision_floor}
        try:
            islands = self.pinned.get(name)
            self._judge(row, islands.raised if islands else {})
            self._time(row)
            unsearched = ""
            if islands:
                row.trade = Trade(islands=islands)
            elif self._may_be_saved(row):
                unsearched = self._save(row)
            assert row.verdict
            known |= _standing(row.verdict, self.config.accept_estimates and make_backend(backend).servable_unbuilt)
            known["reason"] = "; ".join(filter(None, (known.get("reason", ""), unsearched)))
        except Unsupported as error:
            known |= {"status": "unsupported", "reason": str(error)}
        except ModelChangedError:
            raise
        except (WorkerFailed, PipelineError) as error:
            known |= {"status": "failed", "reason": f"{row.stage}: {error}"}
        if self.original is None:
            raise ModelError(f"the original cannot be prepared: {known['reason']}")
        return row.result(known), row.files

    def _judge(self, row: _Row, raised: Raised) -> None:
        """Convert a candidate with the nodes ``raised`` in float32, and validate it."""
        row.stage = "convert"
        row.artifact, row.files, row.size = self._convert(row, raised)
        if row.precision == "int8":  # in halves, operations without a weight may have gone into others
            _check_raised(row.name, row.artifact, raised)
        if row.backend == "original":
            self.original = row.artifact, row.files
        pending = ""
        if make_backend(row.backend).finalizes and gpu_models():
            row.stage = "finalize"
            try:
                row.artifact, row.files, row.size = self._finalize(row, row.artifact, row.files)
            except MissingError as error:  # it is judged by what stands in for it
                pending = str(error)
        row.stage = "validate"
        row.verdict = self._validate(row, row.artifact, row.files, pending)
        if row.verdict.passed and row.artifact.built and make_backend(row.backend).grafts:
            row.stage = "graft"
            self._graft(row)

    def _graft(self, row: _Row) -> None:
        """Give a candidate the form that TensorFlow Serving loads, judged too; without one, it says why."""
        assert row.artifact
        assert row.files
        why = ""
        try:
            entry, cost = self.executor.stage(row.name, "graft", jobs.graft, {
                "backend_name": row.backend, "artifact": row.artifact.model_dump(mode="json"),
                "artifact_folder": str(row.files), "contract": self.contract.model_dump(mode="json"),
                "model": str(self.config.model)}, {"finalized": row.files.parent.name})
            row.costs.append(cost)
            grafted = Artifact.model_validate(entry.value)
            saved_model = grafted.form(make_backend(row.backend).also)
            assert saved_model
            why = self._validate(row, saved_model, entry.files).reason
        except ModelChangedError:
            raise
        except (Unsupported, PipelineError, WorkerFailed) as error:
            why = str(error)
        if not why:
            row.artifact, row.files, row.size = grafted, entry.files, grafted.size_bytes(entry.files)
        else:
            row.artifact = row.artifact.without_graft(why)

    def _time(self, row: _Row) -> None:
        """Time a candidate that has been judged, where it can run here."""
        assert row.verdict
        if row.verdict.estimate is None:
            assert row.artifact
            assert row.files
            row.stage = "benchmark"
            row.benchmark = self._benchmark(row, row.artifact, row.files)

    def _may_be_saved(self, row: _Row) -> bool:
        """Whether a candidate missed its gate by its precision, and float32 for some of its nodes might keep it."""
        assert row.verdict
        assert row.artifact
        estimate = row.verdict.estimate
        wrong = estimate is not None and (bool(estimate.surgery and not estimate.surgery.passed)
                                          or bool(estimate.missing))
        return bool(not row.verdict.passed and not wrong and self.config.islands.evaluations and self.calibration
                    and self.ranges and any(low.nodes for low in row.artifact.low_precision.values()))

    def _save(self, row: _Row) -> str:
        """Search for islands, and time what comes of it; why there was no search, where one failed."""
        before = replace(row)
        try:
            raised = self._raise_islands(row)
        except ModelChangedError:
            raise
        except (WorkerFailed, Unsupported, PipelineError) as error:
            row.artifact, row.files, row.size, row.verdict = before.artifact, before.files, before.size, before.verdict
            row.trade = None
            return f"islands could not be searched: {error}"
        if raised:
            self._time(row)
        return ""

    def _raise_islands(self, row: _Row) -> bool:
        """Search for the nodes to raise and judge the candidate with them; whether it is another one now.

        The search is by emulation, on calibration samples. Where what it finds does not do on the
        validation samples, the candidate itself is tried on those.
        """
        assert row.artifact
        trade = row.trade = Trade(islands=self._find_islands(row, row.artifact.low_precision), before=row.verdict,
                                  benchmark_before=row.benchmark)
        if trade.islands.raised:
            self._judge(row, trade.islands.raised)
        itself = make_backend(row.backend).stands_in_for_itself
        if row.verdict and not row.verdict.passed and (itself or row.verdict.estimate is None):
            tried = self._try_islands(row, trade.islands)
            row.trade = trade.model_copy(update={"islands": tried})
            if tried.raised != trade.islands.raised:
                self._judge(row, tried.raised)
        return bool(row.trade.islands.raised)

    def _find_islands(self, row: _Row, low: dict[str, LowPrecision]) -> Islands:
        """What emulation finds on the calibration samples."""
        row.stage = "islands"
        assert self.calibration
        same = self._search_arguments(row) | {
            "candidate": row.name, "precision": row.precision, "symmetric": make_backend(row.backend).symmetric,
            "per_channel": make_backend(row.backend).per_channel,
            "low": {name: one.model_dump(mode="json") for name, one in low.items()}}
        entry, cost = self.executor.stage(row.name, "islands", jobs.find_islands, {
            "model": str(self.config.model), "contract": self.contract.model_dump(mode="json"),
            "ranges_file": str(self.ranges), "model_digest": self.model_digest,
            "samples": {name: str(folder) for name, folder in self.calibration.folders.items()}, **same,
        }, {"calibration": self.calibration.digest, **self._ranges_key(), **same})
        row.costs.append(cost)
        return Islands.model_validate(entry.value)

    def _try_islands(self, row: _Row, found: Islands) -> Islands:
        """What the candidate itself needs on the validation samples."""
        row.stage = "islands"
        request, key = self._request(row, {})
        same = self._search_arguments(row) | {"found": found.model_dump(mode="json")}
        entry, cost = self.executor.stage(row.name, "trials", jobs.try_islands, {
            "backend_name": row.backend, "request": request, "contract": self.contract.model_dump(mode="json"),
            "samples": {name: str(folder) for name, folder in self.validation.folders.items()}, **same,
        }, key | same | {"samples": self.validation.digest}, self._interpreter("convert", row.backend))
        row.costs.append(cost)
        return Islands.model_validate(entry.value)

    def _search_arguments(self, row: _Row) -> dict[str, Any]:
        floors = {signature: {name: known.noise.floor for name, known in by_name.items()}
                  for signature, by_name in self.reference.outputs.items()}
        return {"gate": self.config.gate.model_dump(mode="json", exclude_none=True), "floors": floors,
                "padding": self.config.padding, "budget": self.config.islands.evaluations}

    def _ranges_key(self) -> dict[str, Any]:
        return {"ranges": digest.of_file(self.ranges)} if self.ranges else {}

    def _calibrated(self) -> Path | None:
        """The ranges file that conversions go by: the one given, else this run's own; None without samples for one."""
        if self.uncalibrated:
            raise PipelineError(self.uncalibrated)
        if self.ranges or not self.calibration:
            return self.ranges
        measuring = self.config.calibration.measuring
        try:
            entry, cost = self.executor.stage("original", "calibrate", jobs.calibrate, {
                "model": str(self.config.model), "contract": self.contract.model_dump(mode="json"),
                "signatures": self.signatures, "padding": self.config.padding, "model_digest": self.model_digest,
                "samples": {name: str(folder) for name, folder in self.calibration.folders.items()},
                "samples_digest": self.calibration.digest, **measuring,
                "checkpoint": str(self.executor.cache.root / "calibration.partial"),
            }, {"calibration": self.calibration.digest, "padding": self.config.padding, **measuring,
                "signatures": self.signatures})
        except (WorkerFailed, InputError) as error:
            # For all candidates that go by ranges, and tried once.
            self.uncalibrated = f"the model could not be calibrated: {error}"
            raise PipelineError(self.uncalibrated) from None
        self.shared.append(cost)
        self.ranges = entry.files / ranges.FILE
        if self.executor.folder:
            shutil.copyfile(self.ranges, self.executor.folder.path / ranges.FILE)
        return self.ranges

    def _request(self, row: _Row, raised: Raised) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a conversion is asked for, and what of that its result depends on."""
        other = self.interpreters.get(row.backend)
        options = make_backend(row.backend).complete_options(
            self.config.settings_of(row.backend).options, other.environment if other else environment())
        known: dict[str, Any] = {"precision": row.precision, "signatures": self.signatures, "options": options}
        request: dict[str, Any] = {"model": str(self.config.model), "tags": self.config.tags, **known}
        key: dict[str, Any] = {"backend": row.backend, **known}
        if make_backend(row.backend).uses_ranges(row.precision, known["options"]) and (file := self._calibrated()):
            request["ranges"] = str(file)
            key |= self._ranges_key()
        if raised:
            request["raised"] = key["raised"] = raised
        if row.backend == "original":
            key["path"] = str(self.config.model.resolve())
        return request, key

    def _convert(self, row: _Row, raised: Raised) -> tuple[Artifact, Path, int]:
        request, key = self._request(row, raised)
        entry, cost = self.executor.stage(row.name, "convert", jobs.convert, {
            "backend_name": row.backend, "request": request, "contract": self.contract.model_dump(mode="json")}, key,
            self._interpreter("convert", row.backend))
        row.costs.append(cost)
        artifact = Artifact.model_validate(entry.value)
        return artifact, entry.files, artifact.size_bytes(entry.files)

    def _finalize(self, row: _Row, artifact: Artifact, files: Path) -> tuple[Artifact, Path, int]:
        profiles = as_json(self.config.profiles)
        same = {"backend_name": row.backend, "artifact": artifact.model_dump(mode="json"),
                "artifact_folder": str(files),
                "contract": self.contract.model_dump(mode="json"),
                "cases": [case.model_dump(mode="json") for case in self.reference.cases], **self._sample_arguments(),
                "profiles": profiles, "batch_sizes": self.config.benchmark.batch_sizes}
        key = {"conversion": files.parent.name, "reference": self.reference_folder.parent.name, "profiles": profiles,
               "batch_sizes": self.config.benchmark.batch_sizes}
        cores = None
        if artifact.core:
            entry, cost = self.executor.stage(row.name, "core shapes", jobs.core_shapes, same, key)
            row.costs.append(cost)
            cores = entry.value
        entry, cost = self.executor.stage(row.name, "finalize", jobs.finalize, {
            **same, "core_shapes": cores, "kept": str(self.executor.cache.root / "kernel-times"),
            "calibration": {n: str(p) for n, p in (self.calibration.folders if self.calibration else {}).items()},
        }, key | {"calibration": self.calibration.digest if self.calibration else ""},
            self._interpreter("finalize", row.backend, artifact))
        row.costs.append(cost)
        built = Artifact.model_validate(entry.value)
        return built, entry.files, built.size_bytes(entry.files)

    def _interpreter(self, stage: Stage, backend: str, artifact: Artifact | None = None) -> Interpreter | None:
        """What ``stage`` runs under; None for the run's own."""
        return self.interpreters.get(backend) if make_backend(backend).runs_apart(stage, artifact) else None

    def _validate(self, row: _Row, artifact: Artifact, files: Path, pending: str = "") -> Verdict:
        """Judge ``artifact``; ``pending`` is why it could not be built here."""
        gate = self.config.gate.model_dump(mode="json", exclude_none=True)
        entry, cost = self.executor.stage(row.name, "validate", jobs.validate, {
            "backend_name": row.backend, "precision": row.precision, "artifact": artifact.model_dump(mode="json"),
            "artifact_folder": str(files), "contract": self.contract.model_dump(mode="json"),
            "reference_index": self.reference.model_dump(mode="json"), "reference_folder": str(self.reference_folder),
            **self._sample_arguments(), "gate": gate, "pending": pending,
        }, {"conversion": files.parent.name, "reference": self.reference_folder.parent.name,
            "noise": self.reference.model_dump(mode="json")["outputs"], "gate": gate, "kind": artifact.kind,
            "pending": pending},
            self._interpreter("validate", row.backend, artifact))
        row.costs.append(cost)
        return Verdict.model_validate(entry.value)

    def _benchmark(self, row: _Row, artifact: Artifact, files: Path) -> BenchmarkResult:
        assert self.original
        settings, other = self.config.benchmark, self._interpreter("benchmark", row.backend, artifact)

        def side(name: str, made: Artifact, folder: Path) -> dict[str, Any]:
            return {"backend": name, "artifact": made.model_dump(mode="json"), "folder": str(folder),
                    "contract": self.contract.model_dump(mode="json"), **self._sample_arguments(),
                    "threads": settings.threads}

        entry, cost = self.executor.stage(row.name, "benchmark", jobs.benchmark, {
            "original": side("original", *self.original),
            "candidate": side(row.backend, artifact, files) | {"python": str(other.python) if other else None},
            "signatures": self.signatures, "batch_sizes": settings.batch_sizes, "duration_s": settings.duration_s,
        }, {"conversion": files.parent.name, "samples": self.validation.digest, "padding": self.config.padding,
            "signatures": self.signatures, "settings": settings.model_dump(mode="json"),
            "interpreter": other.environment if other else None})
        row.costs.append(cost)
        return BenchmarkResult.model_validate(entry.value)

    def _real_samples(self) -> dict[str, Samples]:
        return {name: Samples(folder, self.config.padding) for name, folder in self.validation.folders.items()}

    def _write_warm_up(self, artifact: Artifact, sizes: tuple[int, ...]) -> Path:
        """The records that TensorFlow Serving warms ``artifact`` up with, kept like a stage's result."""
        profiles = as_json(self.config.profiles) if servers.needs_gpu(artifact.kind) else []
        same = {"name": self.config.name, "signatures": self.signatures, "batch_sizes": sizes, "profiles": profiles}
        try:
            entry, cost = self.executor.stage("publication", "warm-up", jobs.write_warm_up, {
                "contract": self.contract.model_dump(mode="json"), **self._sample_arguments(), **same,
            }, {"samples": self.validation.digest, "padding": self.config.padding, **same})
        except (WorkerFailed, PipelineError) as error:
            raise publish.NoWarmUp(str(error)) from None
        self.shared.append(cost)
        return entry.files / WARM_UP

    def _pack(self, folder: Path, result: CandidateResult, files: Path) -> None:
        """Give a candidate that only a GPU can judge what it needs to be judged there (`api.finalize`)."""
        assert result.artifact
        python = result.interpreter.python if result.interpreter else None
        candidate.describe(folder / candidate.MODEL_FOLDER, candidate.Candidate(
            backend=result.backend, precision=result.precision, artifact=result.artifact, folder=files, python=python))
        kit.write(kit.Kit(contract=self.contract, signatures=self.signatures, reference=self.reference,
                          gate=self.config.gate, padding=self.config.padding, profiles=self.config.profiles,
                          benchmark=self.config.benchmark),
                  folder / candidate.MODEL_FOLDER / kit.FOLDER, self.reference_folder, self.validation.folders,
                  self.calibration.folders if self.calibration else {})

    def _sample_arguments(self) -> dict[str, Any]:
        return {"samples": {name: str(folder) for name, folder in self.validation.folders.items()},
                "padding": self.config.padding}

    def _samples_digests(self) -> dict[str, str]:
        found = {"validation": self.validation.digest}
        return found | ({"calibration": self.calibration.digest} if self.calibration else {})

    def _facts(self, run_id: str) -> dict[str, Any]:
        return {"name": self.config.name, "run_id": run_id, "model_digest": self.model_digest,
                "samples_digests": self._samples_digests(), "environment": environment(),
                "candidates": plan.names(self.chosen), "config": self.config.model_dump(mode="json")}


def _check_raised(candidate: str, artifact: Artifact, raised: Raised) -> None:
    """Raise ConfigError where a node was not raised: a name that means nothing keeps nothing in float32."""
    for signature, nodes in raised.items():
        low = artifact.low_precision.get(signature)
        done = {name for name, why in {**low.kept, **low.others}.items() if why == "raised"} if low else set()
        if unknown := [node for node in nodes if node not in done]:
            raise ConfigError(f"the islands of {candidate} name {unknown[0]}, which signature {signature} does not "
                              "have in that precision: take their file out of islands.pinned to search anew")


def _standing(verdict: Verdict, accept_estimates: bool) -> dict[str, str]:
    """Status and reason of a candidate with this verdict."""
    estimate = verdict.estimate
    if estimate is None:
        return {"status": "ok"} if verdict.passed else {"status": "rejected", "reason": verdict.reason}
    if estimate.surgery and not estimate.surgery.passed:
        return {"status": "rejected", "reason": f"the converted graph is not the original: {estimate.surgery.reason}"}
    told = wording.estimated(verdict)
    if estimate.missing or not accept_estimates:
        return {"status": "pending-gpu", "reason": f"{told}; {estimate.pending}"}
    return {"status": "ok" if verdict.passed else "rejected", "reason": f"{told}, which the config accepts"}


@contextlib.contextmanager
def _writing_to(folder: Path) -> Any:
    """Turn a disk that is full or refuses into the one line that it deserves."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}; free some space or choose another "
                          "folder with --output") from error
