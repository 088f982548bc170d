"""Judge one candidate: convert it, validate it, time it, and save it where its precision fails it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.backends import backend as make_backend
from trt_pipeline.backends.base import Artifact, Stage
from trt_pipeline.benchmarking.interleaved import BenchmarkResult, Rival
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.environment import gpu_models
from trt_pipeline.errors import ConfigError, MissingError, ModelChangedError, ModelError, PipelineError, Unsupported
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands.islands import Islands
from trt_pipeline.metrics import scoring
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.publish.select import ORIGINAL
from trt_pipeline.report import wording
from trt_pipeline.results import CandidateResult, StageCost, Trade
from trt_pipeline.samples.profiles import as_json
from trt_pipeline.stages import dominance, jobs
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.study import Study
from trt_pipeline.stages.worker import WorkerFailed

ORIGINAL_SPEC = CandidateSpec(backend=ORIGINAL, precision="native")
Raised = dict[str, tuple[str, ...]]


@dataclass
class _Row:
    """A candidate while it is being judged."""

    spec: CandidateSpec
    stage: str = "convert"
    """Where it is, for the reason of a failure."""
    artifact: Artifact | None = None
    files: Path | None = None
    size: int = 0
    verdict: Verdict | None = None
    answers: Path | None = None
    """Its outputs on the samples, where there are metrics."""
    benchmark: BenchmarkResult | None = None
    trade: Trade | None = None
    costs: list[StageCost] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.backend if self.backend == ORIGINAL else self.spec.name

    @property
    def backend(self) -> str:
        return self.spec.backend

    @property
    def precision(self) -> str:
        return self.spec.precision

    def result(self, known: dict[str, Any]) -> CandidateResult:
        """What is reported of it, with what is ``known`` besides."""
        return CandidateResult(
            name=self.name, backend=self.backend, precision=self.precision, options=self.spec.options,
            artifact=self.artifact, size_bytes=self.size, verdict=self.verdict, benchmark=self.benchmark,
            islands=self.trade, stages=tuple(self.costs), **known)


class Judging:
    """Judges candidates of a study; each method is a stage or a few."""

    def __init__(self, study: Study, executor: Executor,
                 judged: Callable[[], tuple[CandidateResult, ...]] = tuple) -> None:
        """``judged`` says what has become of other candidates by now (`dominance`)."""
        self.study, self.executor, self._judged = study, executor, judged
        self.config, self.contract = study.config, study.contract
        self.original = study.original
        """The original as a candidate, and its folder; known once that has been converted."""

    def judge(self, spec: CandidateSpec) -> tuple[CandidateResult, Path | None]:
        """Convert, validate and time; whatever goes wrong becomes the row's status and reason.

        Raises:
            ModelError: the original itself cannot be prepared.
            ModelChangedError: the model is another one now.
        """
        row = _Row(spec)
        known: dict[str, Any] = {"interpreter": self.study.interpreters.get(spec.backend),
                                 "precision_floor": self.config.precision_floor}
        try:
            islands = self.study.pinned.get(row.name)
            self._judge(row, islands.raised if islands else {})
            self._time(row)
            unsearched = ""
            if islands:
                row.trade = Trade(islands=islands)
            elif self._may_be_saved(row):
                unsearched = self._save(row)
            assert row.verdict
            accepted = self.config.accept_estimates and make_backend(spec.backend).servable_unbuilt
            known |= _standing(row.verdict, accepted)
            known["reason"] = "; ".join(filter(None, (known.get("reason", ""), unsearched)))
            known |= self._scored(row, known)
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
        if row.backend == ORIGINAL:
            self.original = row.artifact, row.files
        pending = ""
        if make_backend(row.backend).finalizes and gpu_models():
            row.stage = "finalize"
            try:
                row.artifact, row.files, row.size = self._finalize(row, row.artifact, row.files)
            except MissingError as error:  # it is judged by what stands in for it
                pending = str(error)
        row.stage = "validate"
        row.verdict, row.answers = self._validate(row, row.artifact, row.files, pending)
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
            why = self._validate(row, saved_model, entry.files)[0].reason
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
        searchable = self.config.islands.evaluations and self.study.calibration and self.study.ranges
        return bool(not row.verdict.passed and not wrong and searchable
                    and any(low.nodes for low in row.artifact.low_precision.values()))

    def _save(self, row: _Row) -> str:
        """Search for islands, and time what comes of it; why there was no search, where one failed."""
        before = replace(row)
        try:
            raised = self._raise_islands(row)
        except ModelChangedError:
            raise
        except (WorkerFailed, Unsupported, PipelineError) as error:
            row.artifact, row.files, row.size, row.verdict = before.artifact, before.files, before.size, before.verdict
            row.answers = before.answers
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
        assert self.study.calibration
        same = self._search_arguments(row) | {
            "candidate": f"{row.backend}/{row.precision}", "precision": row.precision,
            "symmetric": make_backend(row.backend).symmetric, "per_channel": make_backend(row.backend).per_channel,
            "low": {name: one.model_dump(mode="json") for name, one in low.items()}}
        entry, cost = self.executor.stage(row.name, "islands", jobs.find_islands, {
            "model": str(self.config.model), "contract": self.contract.model_dump(mode="json"),
            "ranges_file": str(self.study.ranges), "model_digest": self.study.model_digest,
            "samples": {name: str(folder) for name, folder in self.study.calibration.folders.items()}, **same,
        }, {"calibration": self.study.calibration.digest, **self._ranges_key(), **same})
        row.costs.append(cost)
        return Islands.model_validate(entry.value)

    def _try_islands(self, row: _Row, found: Islands) -> Islands:
        """What the candidate itself needs on the validation samples."""
        row.stage = "islands"
        request, key = self._request(row, {})
        same = self._search_arguments(row) | {"found": found.model_dump(mode="json")}
        entry, cost = self.executor.stage(row.name, "trials", jobs.try_islands, {
            "backend_name": row.backend, "request": request, "contract": self.contract.model_dump(mode="json"),
            "samples": {name: str(folder) for name, folder in self.study.validation.folders.items()}, **same,
        }, key | same | {"samples": self.study.validation.digest}, self._interpreter("convert", row.backend))
        row.costs.append(cost)
        return Islands.model_validate(entry.value)

    def _search_arguments(self, row: _Row) -> dict[str, Any]:
        floors = {signature: {name: known.noise.floor for name, known in by_name.items()}
                  for signature, by_name in self.study.reference.outputs.items()}
        return {"gate": self._gate(), "floors": floors, "padding": self.config.padding,
                "budget": self.config.islands.evaluations}

    def _gate(self) -> dict[str, Any]:
        """The bounds of outputs; those of metrics are of no concern before there are any."""
        return self.config.gate.model_dump(mode="json", exclude_none=True, exclude={"metrics"})

    def _ranges_key(self) -> dict[str, Any]:
        return {"ranges": digest.of_file(self.study.ranges)} if self.study.ranges else {}

    def _ranges(self) -> Path | None:
        """The ranges file that conversions go by; None without samples for one."""
        if self.study.uncalibrated:
            raise PipelineError(self.study.uncalibrated)
        return self.study.ranges

    def _request(self, row: _Row, raised: Raised) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a conversion is asked for, and what of that its result depends on."""
        known: dict[str, Any] = {"precision": row.precision, "signatures": self.study.signatures,
                                 "options": self.study.options(row.spec)}
        request: dict[str, Any] = {"model": str(self.config.model), "tags": self.config.tags, **known}
        key: dict[str, Any] = {"backend": row.backend, **known}
        if make_backend(row.backend).uses_ranges(row.precision, known["options"]) and (file := self._ranges()):
            request["ranges"] = str(file)
            key |= self._ranges_key()
        if raised:
            request["raised"] = key["raised"] = raised
        if row.backend == ORIGINAL:
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
                "cases": [case.model_dump(mode="json") for case in self.study.reference.cases],
                **self.study.sample_arguments(),
                "profiles": profiles, "batch_sizes": self._batch_sizes(row)}
        key = {"conversion": files.parent.name, "reference": self.study.reference_folder.parent.name,
               "profiles": profiles, "batch_sizes": self._batch_sizes(row)}
        cores, calibration = None, self.study.calibration
        if artifact.core:
            entry, cost = self.executor.stage(row.name, "core shapes", jobs.core_shapes, same, key)
            row.costs.append(cost)
            cores = entry.value
        entry, cost = self.executor.stage(row.name, "finalize", jobs.finalize, {
            **same, "core_shapes": cores, "kept": str(self.executor.cache.root / "kernel-times"),
            "calibration": {n: str(p) for n, p in (calibration.folders if calibration else {}).items()},
        }, key | {"calibration": calibration.digest if calibration else ""},
            self._interpreter("finalize", row.backend, artifact))
        row.costs.append(cost)
        built = Artifact.model_validate(entry.value)
        return built, entry.files, built.size_bytes(entry.files)

    def _interpreter(self, stage: Stage, backend: str, artifact: Artifact | None = None) -> Interpreter | None:
        """What ``stage`` runs under; None for the run's own."""
        return self.study.interpreters.get(backend) if make_backend(backend).runs_apart(stage, artifact) else None

    def _validate(self, row: _Row, artifact: Artifact, files: Path, pending: str = "") -> tuple[Verdict, Path]:
        """Judge ``artifact``; ``pending`` is why it could not be built here. Also the folder of its answers."""
        gate, answers = self._gate(), bool(self.study.metrics)
        entry, cost = self.executor.stage(row.name, "validate", jobs.validate, {
            "backend_name": row.backend, "precision": row.precision, "artifact": artifact.model_dump(mode="json"),
            "artifact_folder": str(files), "contract": self.contract.model_dump(mode="json"),
            "reference_index": self.study.reference.model_dump(mode="json"),
            "reference_folder": str(self.study.reference_folder),
            **self.study.sample_arguments(), "gate": gate, "pending": pending,
            "vocabulary": {name: str(path) for name, path in self.config.vocabulary.items()}, "answers": answers,
        }, {"answers": answers, "conversion": files.parent.name, "reference": self.study.reference_folder.parent.name,
            "noise": self.study.reference.model_dump(mode="json")["outputs"], "gate": gate, "kind": artifact.kind,
            "pending": pending, "vocabulary": self.study.vocabulary_digests},
            self._interpreter("validate", row.backend, artifact))
        row.costs.append(cost)
        return Verdict.model_validate(entry.value), entry.files

    def _scored(self, row: _Row, known: dict[str, Any]) -> dict[str, Any]:
        """Status, reason and metrics of a candidate that was ``known`` by its parity."""
        assert row.answers
        assert row.verdict
        original = scores = self.study.original_scores
        if row.backend != ORIGINAL:
            row.stage = "metrics"
            scores, costs = scoring.score(self.executor, row.name, self.study.metrics, self.study.reference,
                                          row.answers)
            row.costs += costs
        return scoring.standing(row.name, known["status"], known["reason"], self.config.gate, scores, original,
                                row.verdict.estimate is not None)

    def _benchmark(self, row: _Row, artifact: Artifact, files: Path) -> BenchmarkResult:
        assert self.original
        settings, other = self.config.benchmark, self._interpreter("benchmark", row.backend, artifact)

        def side(name: str, made: Artifact, folder: Path) -> dict[str, Any]:
            return {"backend": name, "artifact": made.model_dump(mode="json"), "folder": str(folder),
                    "contract": self.contract.model_dump(mode="json"), **self.study.sample_arguments(),
                    "threads": settings.threads}

        entry, cost = self.executor.stage(row.name, "benchmark", jobs.benchmark, {
            "original": side("original", *self.original),
            "candidate": side(row.backend, artifact, files) | {"python": str(other.python) if other else None},
            "signatures": self.study.signatures, "batch_sizes": self._batch_sizes(row),
            "duration_s": settings.duration_s, "rivals": [rival.model_dump(mode="json") for rival in self._rivals(row)],
        }, {"conversion": files.parent.name, "samples": self.study.validation.digest, "padding": self.config.padding,
            "signatures": self.study.signatures, "settings": settings.model_dump(mode="json"),
            "batch_sizes": self._batch_sizes(row), "interpreter": other.environment if other else None,
            # Who came first may differ from run to run; who was there may not.
            "field": self.study.field if settings.early_stopping else None})
        row.costs.append(cost)
        return BenchmarkResult.model_validate(entry.value)

    def _batch_sizes(self, row: _Row) -> tuple[int, ...]:
        return row.spec.timed_at(self.config.benchmark.batch_sizes, self.config.objective_batch)

    def _rivals(self, row: _Row) -> tuple[Rival, ...]:
        """Who makes it not worth measuring further, if slower."""
        if not self.config.benchmark.early_stopping or row.backend == ORIGINAL:
            return ()
        return dominance.rivals(row.result({"status": "ok"}), self._judged(), self.config)


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


