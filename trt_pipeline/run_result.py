"""What a whole run found, as report.json holds it and Python callers get it."""

from __future__ import annotations

from typing import Any

from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.reference import OutputReference
from trt_pipeline.publish.select import fastest, pareto_front
from trt_pipeline.results import CandidateResult, Publication, StageCost


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
        return fastest(self.candidates, self.objective) or self.candidate("original")

    def pareto(self) -> list[CandidateResult]:
        """Candidates that passed and that no other beats in both speed and parity, fastest first."""
        return pareto_front(self.candidates, self.objective)
