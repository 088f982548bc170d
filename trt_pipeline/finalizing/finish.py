"""Finish a converted candidate on the machine that has its GPU: build, judge, time, each in a worker of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, Progress, Stage
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.candidate import Candidate, describe
from trt_pipeline.config.schema import Limits
from trt_pipeline.errors import PipelineError, Unsupported
from trt_pipeline.finalizing.kit import Kit, reference_folder
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.results import CandidateResult, StageCost
from trt_pipeline.samples.profiles import as_json
from trt_pipeline.stages import jobs, worker
from trt_pipeline.stages.worker import WorkerFailed

# No signature's folder has these names: a plus would be quoted.
_BUILT, _GRAFTED = "+built", "+grafted"
_LOG = "log.txt"
_RESULT = "result.json"


def finish(made: Candidate, kit: Kit, kit_folder: Path, target: Path, original: Path | None, python: Path | None,
           limits: Limits, progress: Progress) -> CandidateResult:
    """Write the finished candidate to the new folder ``target``; it appears whole or not at all.

    Args:
        original: what it is timed against; its own graph without TensorRT where that is not here.

    Raises:
        MissingError: this machine cannot build it.
        PipelineError: the build failed; one line says why.
    """
    staged = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        result = _Finish(made, kit, kit_folder, staged, python, limits, progress).run(original)
        os.rename(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return result


class _Finish:
    """One finishing; each method is a stage."""

    def __init__(self, made: Candidate, kit: Kit, kit_folder: Path, staged: Path, python: Path | None,
                 limits: Limits, progress: Progress) -> None:
        self.made, self.kit, self.kit_folder, self.staged = made, kit, kit_folder, staged
        self.python, self.limits, self.progress = python, limits, progress
        self.costs: list[StageCost] = []
        self.common: dict[str, Any] = {
            "contract": kit.contract.model_dump(mode="json"), "padding": kit.padding,
            "samples": {name: str(path) for name, path in kit.samples(kit_folder).items()}}

    def run(self, original: Path | None) -> CandidateResult:
        built = self._build()
        verdict = self._judge(built)
        if verdict.passed and original and backend(self.made.backend).grafts:
            built = self._graft(built, original)
        known: dict[str, Any] = {
            "name": f"{self.made.backend}/{self.made.precision}", "backend": self.made.backend,
            "precision": self.made.precision, "artifact": built, "verdict": verdict,
            "status": "ok" if verdict.passed else "rejected", "reason": verdict.reason or self._unbounded(),
            "size_bytes": built.size_bytes(self.staged)}
        if verdict.passed:
            known["benchmark"] = self._time(built, original)
        result = CandidateResult(**known, stages=tuple(self.costs))
        describe(self.staged, self.made.model_copy(update={"artifact": built, "python": self.python}))
        (self.staged / _RESULT).write_text(result.model_dump_json(indent=2) + "\n")
        return result

    def _unbounded(self) -> str:
        """What of the gate is not looked at here."""
        names = ", ".join(self.kit.gate.metrics)
        return f"the bounds of your own metrics ({names}) were not looked at: finalize computes none" if names else ""

    def _build(self) -> Artifact:
        folder = self.staged / _BUILT
        same = {"backend_name": self.made.backend, "artifact": self.made.artifact.model_dump(mode="json"),
                "artifact_folder": str(self.made.folder), **self.common,
                "cases": [case.model_dump(mode="json") for case in self.kit.reference.cases],
                "profiles": as_json(self.kit.profiles), "batch_sizes": self.kit.benchmark.batch_sizes}
        cores = self._work("core shapes", jobs.core_shapes, same, folder) if self.made.artifact.core else None
        done = self._work("finalize", jobs.finalize, {
            **same, "core_shapes": cores,
            "calibration": {name: str(path) for name, path in self.kit.calibration(self.kit_folder).items()},
        }, folder, self._python("finalize", self.made.artifact))
        self._take(folder)
        return Artifact.model_validate(done)

    def _graft(self, built: Artifact, original: Path) -> Artifact:
        """``built`` with the form that TensorFlow Serving loads, judged too; without one, it says why."""
        folder = self.staged / _GRAFTED
        try:
            done = self._work("graft", jobs.graft, {
                "backend_name": self.made.backend, "artifact": built.model_dump(mode="json"),
                "artifact_folder": str(self.staged), "contract": self.common["contract"],
                "model": str(original)}, folder)
            grafted = Artifact.model_validate(done)
            saved_model = grafted.form(backend(self.made.backend).also)
            assert saved_model
            why = self._judge(saved_model, folder).reason
        except (PipelineError, Unsupported) as error:
            why = str(error)
        if why:
            shutil.rmtree(folder, ignore_errors=True)
            return built.without_graft(why)
        self._take(folder)
        return grafted

    def _take(self, folder: Path) -> None:
        """Move what a stage made in ``folder`` to where the candidate is written; what is there already stays."""
        for entry in folder.iterdir():
            if not (self.staged / entry.name).exists():
                entry.rename(self.staged / entry.name)
        shutil.rmtree(folder)

    def _python(self, stage: Stage, artifact: Artifact) -> Path | None:
        """What ``stage`` runs under; None for this interpreter."""
        return self.python if backend(self.made.backend).runs_apart(stage, artifact) else None

    def _judge(self, built: Artifact, folder: Path | None = None) -> Verdict:
        done = self._work("validate", jobs.validate, {
            "backend_name": self.made.backend, "precision": self.made.precision,
            "artifact": built.model_dump(mode="json"), "artifact_folder": str(folder or self.staged), **self.common,
            "reference_index": self.kit.reference.model_dump(mode="json"),
            "reference_folder": str(reference_folder(self.kit_folder)),
            "gate": self.kit.gate.model_dump(mode="json", exclude_none=True)}, self.staged,
            self._python("validate", built))
        return Verdict.model_validate(done)

    def _time(self, built: Artifact, original: Path | None) -> BenchmarkResult:
        with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
            model = original.resolve() if original else self._without_tensorrt(Path(scratch))
            before = Artifact(kind="savedmodel", files=dict.fromkeys(self.kit.signatures, model.name))

            def side(name: str, artifact: Artifact, folder: Path, python: Path | None) -> dict[str, Any]:
                return {"backend": name, "artifact": artifact.model_dump(mode="json"), "folder": str(folder),
                        "threads": self.kit.benchmark.threads, "python": str(python) if python else None,
                        **self.common}

            done = self._work("benchmark", jobs.benchmark, {
                "original": side("original", before, model.parent, self._python("convert", self.made.artifact)),
                "candidate": side(self.made.backend, built, self.staged, self._python("benchmark", built)),
                "signatures": self.kit.signatures,
                "batch_sizes": self.kit.benchmark.batch_sizes,
                "duration_s": self.kit.benchmark.duration_s}, self.staged)
        return BenchmarkResult.model_validate(done)

    def _without_tensorrt(self, scratch: Path) -> Path:
        """The candidate's own graph, run by TensorFlow alone: what the original is but for its constants."""
        self._work("stand-in", jobs.write_stand_in, {
            "backend_name": self.made.backend, "artifact": self.made.artifact.model_dump(mode="json"),
            "artifact_folder": str(self.made.folder)}, scratch / "stand-in",
            self._python("convert", self.made.artifact))
        return scratch / "stand-in"

    def _work(self, stage: str, function: Any, arguments: dict[str, Any], folder: Path,
              python: Path | None = None) -> Any:
        log = self.staged / f"{stage}.txt"
        try:
            outcome = worker.run(function, {**arguments, "folder": str(folder)}, self.limits, log, self.progress,
                                 python)
        except WorkerFailed as error:
            raise PipelineError(f"{stage} of {self.made.folder} failed: {error}") from None
        finally:
            with (self.staged / _LOG).open("ab") as all_logs:
                all_logs.write(log.read_bytes())
            log.unlink()
        self.costs.append(StageCost(stage=stage, seconds=outcome.seconds, peak_memory_mb=outcome.peak_memory_mb,
                                    cached=False))
        return outcome.value
