"""One run: every stage in a worker, its result kept; then select, publish, report."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from trt_pipeline import candidate, digest, report
from trt_pipeline.backends import backend as make_backend
from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.config.schema import Config
from trt_pipeline.environment import environment, gpu_models
from trt_pipeline.errors import (
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
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.parity.reference import Reference
from trt_pipeline.publish import publish
from trt_pipeline.report import wording
from trt_pipeline.results import CandidateResult, StageCost
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import as_json
from trt_pipeline.stages import jobs, lock, plan, worker
from trt_pipeline.stages.cache import Entry, StageCache, key_of
from trt_pipeline.stages.plan import SampleSet
from trt_pipeline.stages.run_folder import RunFolder
from trt_pipeline.stages.worker import Outcome, WorkerFailed

# Parity of the samples themselves is judged in batches of this many; corners have their own sizes.
_VALIDATION_BATCH = 8
ARTIFACTS = Path("artifacts")
# Key under which a kept result says that a backend cannot take the model.
_UNSUPPORTED = "unsupported"


class Observer(Protocol):
    """Who is told how a run goes; the terminal's progress bars are one."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def progress(self, done: int, total: int) -> None:
        """The stage has done ``done`` of ``total``."""

    def candidate(self, result: CandidateResult) -> None:
        """A candidate has been judged."""


class Silent:
    """Nobody watches."""

    def stage(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def candidate(self, result: CandidateResult) -> None: ...


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
    root = output / config.name
    with lock.exclusive(root, config.name), _writing_to(root):
        return _Run(config, chosen, model_digest, root, fresh, observer or Silent()).execute(publishing, again)


class _Run:
    """The state of one execution; each method is a stage or a few."""

    def __init__(self, config: Config, chosen: tuple[str, ...], model_digest: str, root: Path, fresh: bool,
                 observer: Observer) -> None:
        self.config, self.chosen, self.model_digest = config, chosen, model_digest
        self.fresh, self.observer = fresh, observer
        self.cache = StageCache(root / "stages")
        self.root = root
        self.folder: RunFolder | None = None
        self.files: dict[str, Path] = {}
        self.shared: list[StageCost] = []
        self.base_key: dict[str, Any] = {"model": model_digest, "tags": config.tags}
        self.interpreters = plan.interpreters(config, chosen)

    def execute(self, publishing: bool, again: bool) -> RunResult:
        started = time.monotonic()
        try:
            arguments = {"model": str(self.config.model), "tags": self.config.tags}
            entry, cost = self._stage("inspect", "inspect", jobs.inspect, arguments, {})
            self.shared.append(cost)
        except WorkerFailed as error:
            raise ModelError(f"{self.config.model} cannot be read: {error}") from None
        self.contract = Inspection.model_validate(entry.value).contract
        self.signatures = plan.signatures(self.config, self.contract)
        validation = plan.open_samples(self.config, self.contract, self.signatures, "validation", self.cache.root)
        assert validation
        self.validation: SampleSet = validation
        self.calibration = plan.open_samples(self.config, self.contract, self.signatures, "calibration",
                                             self.cache.root)
        if self.calibration and set(self.calibration.folders.values()) & set(self.validation.folders.values()):
            raise SamplesError("calibration and validation samples are the same data: int8 would be judged on what "
                               "it was fitted to")
        # Only now: bad input leaves no run behind.
        folder = self.folder = RunFolder(self.root)
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
                                           folder.path.name, self.model_digest, again) if publishing else ()
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
            entry, cost = self._stage("original", "reference", jobs.refer, arguments, {
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
            entry, cost = self._stage("original", "noise", jobs.measure_noise, {
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
        costs: list[StageCost] = []
        files: Path | None = None
        known: dict[str, Any] = {"name": shown, "backend": backend, "precision": precision,
                                 "interpreter": self.interpreters.get(backend)}
        stage = "convert"
        try:
            artifact, files, size = self._convert(shown, backend, precision, costs)
            if backend == "original":
                self.original = artifact, files
            known |= {"artifact": artifact, "size_bytes": size}
            if make_backend(backend).finalizes and gpu_models():
                stage = "finalize"
                # Where this machine's libraries cannot build it, it is judged by what stands in for it.
                with contextlib.suppress(MissingError):
                    artifact, files, size = self._finalize(shown, backend, artifact, files, costs)
                    known |= {"artifact": artifact, "size_bytes": size}
            stage = "validate"
            verdict = self._validate(shown, backend, precision, artifact, files, costs)
            known |= {"verdict": verdict} | _standing(verdict, self.config.accept_estimates)
            if verdict.estimate is None:
                stage = "benchmark"
                known["benchmark"] = self._benchmark(shown, backend, artifact, files, costs)
        except Unsupported as error:
            known |= {"status": "unsupported", "reason": str(error)}
        except ModelChangedError:
            raise
        except (WorkerFailed, PipelineError) as error:
            known |= {"status": "failed", "reason": f"{stage}: {error}"}
        if self.original is None:
            raise ModelError(f"the original cannot be prepared: {known['reason']}")
        return CandidateResult(**known, stages=tuple(costs)), files

    def _convert(self, shown: str, backend: str, precision: str, costs: list[StageCost]) -> tuple[Artifact, Path, int]:
        request: dict[str, Any] = {"model": str(self.config.model), "tags": self.config.tags,
                                   "signatures": self.signatures, "precision": precision,
                                   "options": self.config.settings_of(backend).options}
        key: dict[str, Any] = {"backend": backend, "precision": precision, "signatures": self.signatures,
                               "options": request["options"],
                               "option files": _digests(make_backend(backend).option_files(request["options"]))}
        if precision == "int8" and self.calibration:
            request |= {"samples": {n: str(p) for n, p in self.calibration.folders.items()},
                        "padding": self.config.padding}
            key |= {"calibration": self.calibration.digest, "padding": self.config.padding}
        if backend == "original":
            key["path"] = str(self.config.model.resolve())
        entry, cost = self._stage(shown, "convert", jobs.convert, {
            "backend_name": backend, "request": request, "contract": self.contract.model_dump(mode="json")}, key,
            self.interpreters.get(backend))
        costs.append(cost)
        artifact = Artifact.model_validate(entry.value)
        return artifact, entry.files, artifact.size_bytes(entry.files)

    def _finalize(self, shown: str, backend: str, artifact: Artifact, files: Path,
                  costs: list[StageCost]) -> tuple[Artifact, Path, int]:
        profiles = as_json(self.config.profiles)
        entry, cost = self._stage(shown, "finalize", jobs.finalize, {
            "backend_name": backend, "artifact": artifact.model_dump(mode="json"), "artifact_folder": str(files),
            "contract": self.contract.model_dump(mode="json"),
            "cases": [case.model_dump(mode="json") for case in self.reference.cases], **self._sample_arguments(),
            "calibration": {n: str(p) for n, p in (self.calibration.folders if self.calibration else {}).items()},
            "profiles": profiles,
        }, {"conversion": files.parent.name, "reference": self.reference_folder.parent.name, "profiles": profiles,
            "calibration": self.calibration.digest if self.calibration else ""}, self.interpreters.get(backend))
        costs.append(cost)
        built = Artifact.model_validate(entry.value)
        return built, entry.files, built.size_bytes(entry.files)

    def _validate(self, shown: str, backend: str, precision: str, artifact: Artifact, files: Path,
                  costs: list[StageCost]) -> Verdict:
        gate = self.config.gate.model_dump(mode="json", exclude_none=True)
        entry, cost = self._stage(shown, "validate", jobs.validate, {
            "backend_name": backend, "precision": precision, "artifact": artifact.model_dump(mode="json"),
            "artifact_folder": str(files), "contract": self.contract.model_dump(mode="json"),
            "reference_index": self.reference.model_dump(mode="json"), "reference_folder": str(self.reference_folder),
            **self._sample_arguments(), "gate": gate,
        }, {"conversion": files.parent.name, "reference": self.reference_folder.parent.name,
            "noise": self.reference.model_dump(mode="json")["outputs"], "gate": gate}, self.interpreters.get(backend))
        costs.append(cost)
        return Verdict.model_validate(entry.value)

    def _benchmark(self, shown: str, backend: str, artifact: Artifact, files: Path,
                   costs: list[StageCost]) -> BenchmarkResult:
        assert self.original
        settings, other = self.config.benchmark, self.interpreters.get(backend)

        def side(name: str, made: Artifact, folder: Path) -> dict[str, Any]:
            return {"backend": name, "artifact": made.model_dump(mode="json"), "folder": str(folder),
                    "contract": self.contract.model_dump(mode="json"), **self._sample_arguments(),
                    "threads": settings.threads}

        entry, cost = self._stage(shown, "benchmark", jobs.benchmark, {
            "original": side("original", *self.original),
            "candidate": side(backend, artifact, files) | {"python": str(other.python) if other else None},
            "signatures": self.signatures, "batch_sizes": settings.batch_sizes, "duration_s": settings.duration_s,
        }, {"conversion": files.parent.name, "samples": self.validation.digest, "padding": self.config.padding,
            "signatures": self.signatures, "settings": settings.model_dump(mode="json"),
            "interpreter": other.environment if other else None})
        costs.append(cost)
        return BenchmarkResult.model_validate(entry.value)

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

    def _stage(self, shown: str, stage: str, function: Callable[..., Any], arguments: dict[str, Any],
               parts: dict[str, Any], interpreter: Interpreter | None = None) -> tuple[Entry, StageCost]:
        """The result of one stage: the kept one, or a worker's, which is then kept."""
        self.observer.stage(f"{shown}: {stage}")
        libraries = {"interpreter": interpreter.environment} if interpreter else {}
        key = key_of(self.base_key | parts | libraries | {"stage": stage})
        entry = None if self.fresh else self.cache.find(stage, key)
        cached = entry is not None
        if entry is None:
            entry = self._work(shown, stage, key, function, arguments, interpreter.python if interpreter else None)
        if self.folder:
            self.folder.add_log(shown, entry.log)
        if isinstance(entry.value, dict) and _UNSUPPORTED in entry.value:
            raise Unsupported(entry.value[_UNSUPPORTED])
        return entry, StageCost(stage=stage, seconds=entry.seconds, peak_memory_mb=entry.peak_memory_mb, cached=cached)

    def _work(self, shown: str, stage: str, key: str, function: Callable[..., Any], arguments: dict[str, Any],
              python: Path | None) -> Entry:
        staging = self.cache.stage()
        try:
            outcome = worker.run(function, {**arguments, "folder": str(staging / "files")}, self.config.limits,
                                 staging / "log.txt", self.observer.progress, python)
        except Unsupported as error:
            # Will be so again: a result like any other.
            outcome = Outcome(value={_UNSUPPORTED: str(error)}, seconds=0, peak_memory_mb=0)
        except BaseException:
            if self.folder:
                self.folder.save_failed_log(shown, stage, staging / "log.txt")
            shutil.rmtree(staging, ignore_errors=True)
            raise
        if plan.check_model(self.config) != self.model_digest:
            shutil.rmtree(staging, ignore_errors=True)
            raise ModelChangedError(f"{self.config.model} was changed while it was being optimized: run again")
        return self.cache.keep(stage, key, staging, outcome.value, outcome.seconds, outcome.peak_memory_mb)

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


def _digests(files: tuple[Path, ...]) -> list[str]:
    """Digests of what the user's options name; a file that is not there is the conversion's to complain of."""
    return [digest.of_file(file) if file.is_file() else "" for file in files]


def _standing(verdict: Verdict, accept_estimates: bool) -> dict[str, str]:
    """Status and reason of a candidate with this verdict."""
    estimate = verdict.estimate
    if estimate is None:
        return {"status": "ok"} if verdict.passed else {"status": "rejected", "reason": verdict.reason}
    if not estimate.surgery.passed:
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
