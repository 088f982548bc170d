"""The records of parts of a run: a stage's cost, a candidate (result.json), a publication."""

from __future__ import annotations

from typing import Literal

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.parity.judge import Verdict

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
    interpreter: Interpreter | None = None
    """What made and ran it, where that was not the run's own interpreter (`RunResult.environment`)."""


class Publication(Frozen):
    """What one target got. ``version`` and ``path`` are None where nothing could be published."""

    target: str
    candidate: str | None
    why: str
    version: int | None = None
    path: str | None = None
    new: bool = False
