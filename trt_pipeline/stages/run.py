"""One run: every stage in a worker, its result kept; then select, publish, report."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from trt_pipeline import candidate, report, vocabulary
from trt_pipeline.backends import backend as make_backend
from trt_pipeline.calibration import ranges
from trt_pipeline.ci import gate
from trt_pipeline.ci.gate import Checks
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.config.schema import Config
from trt_pipeline.environment import environment
from trt_pipeline.errors import (
    InputError,
    ModelError,
    SamplesError,
)
from trt_pipeline.files import writing_to
from trt_pipeline.finalizing import kit
from trt_pipeline.inspection import Inspection
from trt_pipeline.metrics import metric, scoring
from trt_pipeline.metrics.function import Functions
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.parity.reference import Reference
from trt_pipeline.provenance.record import Provenance
from trt_pipeline.publish import publish
from trt_pipeline.publish.select import ORIGINAL
from trt_pipeline.results import CandidateResult, Publication, StageCost
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.store import Samples
from trt_pipeline.stages import jobs, lock, plan
from trt_pipeline.stages.cache import Entry, StageCache
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.judges import Judges, OneAfterTheOther
from trt_pipeline.stages.judging import ORIGINAL_SPEC, Judging
from trt_pipeline.stages.observer import Observer, Silent
from trt_pipeline.stages.publishing import WarmUps
from trt_pipeline.stages.run_folder import RunFolder
from trt_pipeline.stages.study import Study
from trt_pipeline.stages.worker import WorkerFailed

# Parity of the samples themselves is judged in batches of this many; corners have their own sizes.
_VALIDATION_BATCH = 8
ARTIFACTS = Path("artifacts")


def run(config: Config, *, backends: list[str] | None = None, precisions: list[str] | None = None,
        output: Path = ARTIFACTS, fresh: bool = False, publishing: bool = True, again: bool = False,
        observer: Observer | None = None, judges: Judges | None = None, checks: Checks | None = None,
        functions: Functions | None = None, labels: Any = None) -> RunResult:
    """Judge every candidate of ``config`` and publish the best for each target.

    Args:
        backends, precisions: limit the candidates to these; empty or None for no limit.
        output: where run folders and kept stage results go, below the model's name.
        fresh: do every stage again, whatever has been kept.
        publishing: False only judges (a sweep).
        again: publish even what is the newest version already.
        judges: who judges the candidates; this process's own workers, one after the other, by default.
        checks: what is asked of the run before anything is published.
        functions, labels: metrics and labels besides those of the configuration (`metrics.metric.plan`).

    Raises:
        InputError: config, model, samples or an output folder is wrong; one line says what.
        MissingError: the machine lacks what a stage needs.
    """
    chosen = plan.candidates(config, backends or [], precisions or [])
    if checks:
        sizes = {spec.name: spec.timed_at(config.benchmark.batch_sizes, config.objective_batch) for spec in chosen}
        gate.check(checks, config, {ORIGINAL: config.benchmark.batch_sizes, **sizes}, tuple(functions or ()))
    model_digest = plan.check_model(config)
    if publishing:
        publish.check(config)
    root = output / config.name
    with lock.exclusive(root, config.name), writing_to(root):
        return _Run(config, chosen, model_digest, root, fresh, observer or Silent(),
                    judges or OneAfterTheOther(), functions, labels).execute(publishing, again, checks)


class _Run:
    """The state of one execution; each method is a stage or a few."""

    def __init__(self, config: Config, chosen: tuple[CandidateSpec, ...], model_digest: str, root: Path, fresh: bool,
                 observer: Observer, judges: Judges, functions: Functions | None, labels: Any) -> None:
        self.functions, self.labels = functions, labels
        self.config, self.chosen, self.model_digest = config, chosen, model_digest
        self.observer, self.root, self.judges = observer, root, judges
        self.executor = Executor(config, model_digest, StageCache(root / "stages"), fresh, observer)
        self.interpreters = plan.interpreters(config, chosen)
        self.given_ranges = plan.given_ranges(config, model_digest)
        self.pinned = plan.pinned_islands(config, chosen, model_digest)
        self.shared: list[StageCost] = []

    def execute(self, publishing: bool, again: bool, checks: Checks | None) -> RunResult:
        started = time.monotonic()
        study = self._study()
        study, results, files = self._judge_all(study)
        judged = RunResult(
            name=self.config.name, run_id=self.folder.path.name, folder=str(self.folder.path),
            model=str(self.config.model), model_digest=self.model_digest, samples_digests=_digests(study),
            config=self.config.model_dump(mode="json"), environment=environment(), contract=study.contract,
            noise=study.reference.outputs, stages=tuple(self.shared), candidates=results, publications=(),
            objective=self.config.objective, seconds=time.monotonic() - started,
            calibration=ranges.read(study.ranges, self.model_digest).facts if study.ranges else None)
        targets = self.config.targets if publishing else ()
        asked = gate.judge(checks, judged, targets) if checks and checks.gated else None
        publications: tuple[Publication, ...] = ()
        if asked and not asked.passed:
            publications = gate.withheld(asked, targets)
        elif publishing:
            publications = self._publish(study, results, files, again)
        finished = judged.model_copy(update={"publications": publications, "gate": asked, "stages": tuple(self.shared),
                                             "seconds": time.monotonic() - started})
        self.folder.write("report.json", finished.model_dump(mode="json"))
        report.write_html(finished, self.folder.path / "report.html")
        self.provenance.end(finished)
        return finished

    def _study(self) -> Study:
        """All that is known before the first candidate is judged; from here on the run has a folder."""
        try:
            arguments = {"model": str(self.config.model), "tags": self.config.tags}
            entry, cost = self.executor.stage("inspect", "inspect", jobs.inspect, arguments, {})
            self.shared.append(cost)
        except WorkerFailed as error:
            raise ModelError(f"{self.config.model} cannot be read: {error}") from None
        contract = Inspection.model_validate(entry.value).contract
        signatures = plan.signatures(self.config, contract)
        stores = self.executor.cache.root
        validation = plan.open_samples(self.config, contract, signatures, "validation", stores)
        assert validation
        calibration = plan.open_samples(self.config, contract, signatures, "calibration", stores)
        if calibration and set(calibration.folders.values()) & set(validation.folders.values()):
            raise SamplesError("calibration and validation samples are the same data: int8 would be judged on what "
                               "it was fitted to")
        metrics = metric.plan(self.config, signatures, validation.folders, stores / "metrics", self.functions,
                              self.labels)
        vocabularies = vocabulary.check(self.config.vocabulary, [contract.signatures[name] for name in signatures])
        study = Study(config=self.config, chosen=self.chosen, model_digest=self.model_digest, contract=contract,
                      signatures=signatures, validation=validation, calibration=calibration,
                      reference=Reference(cases=(), outputs={}), reference_folder=stores,
                      interpreters=self.interpreters, pinned=self.pinned, metrics=metrics,
                      vocabulary_digests=vocabularies)
        # Only now: bad input leaves no run behind.
        self.folder = self.executor.folder = RunFolder(self.root)
        self.provenance = Provenance(self.config, self.folder.path, [ORIGINAL, *(spec.name for spec in self.chosen)],
                                     self.model_digest, _digests(study), self.interpreters)
        self.provenance.begin()
        reference, folder = self._refer(study)
        scores, costs = scoring.score_original(self.executor, metrics, reference, folder, self.config.gate)
        self.shared += costs
        return study.model_copy(update={"reference": reference, "reference_folder": folder, "original_scores": scores})

    def _publish(self, study: Study, results: tuple[CandidateResult, ...], files: dict[str, Path],
                 again: bool) -> tuple[Publication, ...]:
        warm_ups = WarmUps(self.executor, self.config, study.contract, study.signatures, study.validation)
        samples = {name: Samples(folder, self.config.padding) for name, folder in study.validation.folders.items()}
        try:
            return publish.publish_all(
                self.config, study.contract, study.signatures, results, files, self.folder.path.name,
                self.model_digest, again, samples, warm_ups, self.provenance.evidence(results))
        finally:
            self.shared += warm_ups.costs

    def _judge_all(self, study: Study) -> tuple[Study, tuple[CandidateResult, ...], dict[str, Path]]:
        """Judge the original, calibrate, and judge the others.

        Returns:
            The study, now with the original and the ranges; results in the order of the plan; and their files.
        """
        judging = Judging(study, self.executor)
        found = {ORIGINAL: self._record(study, *judging.judge(ORIGINAL_SPEC))}
        study = self._calibrated(study.model_copy(update={"original": judging.original}))
        judged: list[CandidateResult] = [found[ORIGINAL][0]]
        for result, files in self.judges.judge(study, self.executor, judged):
            judged.append(result)
            found[result.name] = self._record(study, result, files)
        names = [ORIGINAL, *(spec.name for spec in self.chosen)]
        return (study, tuple(found[name][0] for name in names),
                {name: files for name in names if (files := found[name][1])})

    def _record(self, study: Study, result: CandidateResult, files: Path | None) -> tuple[CandidateResult, Path | None]:
        """Write what became of a candidate to the run's folder, and tell whoever watches."""
        self.folder.write_candidate(result, files)
        if result.status == "pending-gpu" and files:
            self._pack(study, self.folder.candidate(result.name), result, files)
        self.observer.candidate(result)
        return result, files

    def _refer(self, study: Study) -> tuple[Reference, Path]:
        arguments = {"model": str(self.config.model), "contract": study.contract.model_dump(mode="json"),
                     "signatures": study.signatures, **study.sample_arguments(), "batch_size": _VALIDATION_BATCH,
                     "max_batch_size": self.config.max_batch_size}
        try:
            entry, cost = self.executor.stage("original", "reference", jobs.refer, arguments, {
                "samples": study.validation.digest, "signatures": study.signatures, "padding": self.config.padding,
                "batch": [_VALIDATION_BATCH, self.config.max_batch_size]})
        except WorkerFailed as error:
            raise ModelError(f"the original does not run on its samples: {error}") from None
        self.shared.append(cost)
        reference = Reference.model_validate(entry.value)
        return reference.with_noise(self._measure_noise(study, reference, entry)), entry.files

    def _measure_noise(self, study: Study, reference: Reference, made: Entry) -> dict[str, dict[str, Any]]:
        """The original's noise floors; a run goes on without them, with the smallest floor there is."""
        try:
            entry, cost = self.executor.stage("original", "noise", jobs.measure_noise, {
                "model": str(self.config.model), "contract": study.contract.model_dump(mode="json"),
                "reference_index": made.value, "reference_folder": str(made.files), **study.sample_arguments(),
            }, {"reference": made.folder.name})
        except WorkerFailed as error:
            unknown = NoiseFloor(without=f"not measured: {error}")
            return {signature: dict.fromkeys(by_name, unknown) for signature, by_name in reference.outputs.items()}
        self.shared.append(cost)
        floors: dict[str, dict[str, Any]] = entry.value
        return floors

    def _calibrated(self, study: Study) -> Study:
        """With the ranges file that conversions go by: the one given, else this run's own, where any needs one."""
        if self.given_ranges or not study.calibration or not any(
                make_backend(spec.backend).uses_ranges(spec.precision, study.options(spec)) for spec in self.chosen):
            return study.model_copy(update={"ranges": self.given_ranges})
        measuring = self.config.calibration.measuring
        try:
            entry, cost = self.executor.stage("original", "calibrate", jobs.calibrate, {
                "model": str(self.config.model), "contract": study.contract.model_dump(mode="json"),
                "signatures": study.signatures, "padding": self.config.padding, "model_digest": self.model_digest,
                "samples": {name: str(folder) for name, folder in study.calibration.folders.items()},
                "samples_digest": study.calibration.digest, **measuring,
                "checkpoint": str(self.executor.cache.root / "calibration.partial"),
            }, {"calibration": study.calibration.digest, "padding": self.config.padding, **measuring,
                "signatures": study.signatures})
        except (WorkerFailed, InputError) as error:
            return study.model_copy(update={"uncalibrated": f"the model could not be calibrated: {error}"})
        self.shared.append(cost)
        shutil.copyfile(entry.files / ranges.FILE, self.folder.path / ranges.FILE)
        return study.model_copy(update={"ranges": entry.files / ranges.FILE})

    def _pack(self, study: Study, folder: Path, result: CandidateResult, files: Path) -> None:
        """Give a candidate that only a GPU can judge what it needs to be judged there (`api.finalize`)."""
        assert result.artifact
        python = result.interpreter.python if result.interpreter else None
        candidate.describe(folder / candidate.MODEL_FOLDER, candidate.Candidate(
            backend=result.backend, precision=result.precision, artifact=result.artifact, folder=files, python=python))
        kit.write(kit.Kit(contract=study.contract, signatures=study.signatures, reference=study.reference,
                          gate=self.config.gate, padding=self.config.padding, profiles=self.config.profiles,
                          benchmark=self.config.benchmark),
                  folder / candidate.MODEL_FOLDER / kit.FOLDER, study.reference_folder, study.validation.folders,
                  study.calibration.folders if study.calibration else {})


def _digests(study: Study) -> dict[str, str]:
    """Kind of samples -> their digest."""
    found = {"validation": study.validation.digest}
    return found | ({"calibration": study.calibration.digest} if study.calibration else {})
