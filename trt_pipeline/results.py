"""The records that a run leaves behind: run.json, result.json of each candidate, report.json."""

from __future__ import annotations

from typing import Any, Literal

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmark.interleaved import BenchmarkResult
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.reference import OutputReference

Status = Literal["ok", "rejected", "failed", "unsupported", "pending-gpu"]


class StageCost(Frozen):
    """What one stage took; ``cached`` when this run did not have to do it."""

    stage: str
    seconds: float
    peak_memory_mb: float
    cached: bool


class CandidateResult(Frozen):
    """One candidate: ``status`` is `ok` when it passed its gate, whatever its speed."""

    name: str
    backend: str
    precision: str
    status: Status
    reason: str = ""
    artifact: Artifact | None = None
    size_bytes: int = 0
    verdict: Verdict | None = None
    benchmark: BenchmarkResult | None = None
    stages: tuple[StageCost, ...] = ()


class Publication(Frozen):
    """What one target got. ``version`` and ``path`` are None where nothing could be published."""

    target: str
    candidate: str | None
    why: str
    version: int | None = None
    path: str | None = None
    new: bool = False


class RunResult(Frozen):
    """Everything that a run found; report.json holds it whole."""

    name: str
    run_id: str
    folder: str
    model: str
    model_digest: str
    samples_digests: dict[str, str]
    config: dict[str, Any]
    environment: dict[str, str]
    contract: Contract
    noise: dict[str, dict[str, OutputReference]]
    stages: tuple[StageCost, ...]
    """Stages that all candidates share: inspect, reference."""
    candidates: tuple[CandidateResult, ...]
    publications: tuple[Publication, ...]
    objective: str
    seconds: float

    def candidate(self, name: str) -> CandidateResult:
        """The candidate called ``backend/precision``. Raises KeyError where there is none."""
        for found in self.candidates:
            if found.name == name:
                return found
        raise KeyError(name)

    def best(self) -> CandidateResult:
        """The fastest candidate that passed its gate and beats the original; the original if none does."""
        from trt_pipeline.publish.select import fastest

        return fastest(self.candidates, self.objective) or self.candidate("original")

    def pareto(self) -> list[CandidateResult]:
        """Candidates that passed and that no other beats in both speed and parity, fastest first."""
        from trt_pipeline.publish.select import pareto_front

        return pareto_front(self.candidates, self.objective)
