"""The records of parts of a run: a stage's cost, a candidate (result.json), a publication."""

from __future__ import annotations

from typing import Literal

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands.islands import Islands
from trt_pipeline.parity.judge import Verdict

Status = Literal["ok", "rejected", "failed", "unsupported", "pending-gpu"]


class StageCost(Frozen):
    """What one stage took; ``cached`` when this run did not have to do it."""

    stage: str
    seconds: float
    peak_memory_mb: float
    cached: bool


class Trade(Frozen):
    """Which nodes of a candidate stay in float32, and what it was before."""

    islands: Islands
    before: Verdict | None = None
    """The verdict with nothing raised; None where the islands were pinned."""
    benchmark_before: BenchmarkResult | None = None


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
    islands: Trade | None = None
    """Set where nodes were raised to keep the gate, or no set of nodes did."""
    precision_floor: float = 0.0
    """The least share of operations with a weight that has to compute in ``precision``."""
    benchmark: BenchmarkResult | None = None
    stages: tuple[StageCost, ...] = ()
    interpreter: Interpreter | None = None
    """What made and ran it, where that was not the run's own interpreter (`RunResult.environment`)."""

    @property
    def low_share(self) -> float | None:
        """Share of the operations with a weight that compute in ``precision``; None where that is no question."""
        known = list(self.artifact.low_precision.values()) if self.artifact else []
        total = sum(len(one.nodes) + len(one.kept) for one in known)
        return sum(len(one.nodes) for one in known) / total if total else None

    @property
    def label(self) -> str:
        """Its name, with what that leaves unsaid: islands, or that little of it is in its precision."""
        share = self.low_share
        if share is not None and share < self.precision_floor:
            return f"{self.name} ({share:.0%} {self.precision})"
        return f"{self.name}+fp32" if self.islands and self.islands.islands.raised else self.name


class Publication(Frozen):
    """What one target got. ``version`` and ``path`` are None where nothing could be published."""

    target: str
    candidate: str | None
    why: str
    version: int | None = None
    path: str | None = None
    new: bool = False
