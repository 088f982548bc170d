"""The records of parts of a run: a stage's cost, a candidate (result.json), a publication."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PrivateAttr

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands.islands import Islands
from trt_pipeline.parity.judge import Verdict

if TYPE_CHECKING:
    from trt_pipeline.run_result import RunResult

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


class _RunLink:
    """The run that a candidate is of. Nothing that is compared, copied deeply or pickled with the candidate."""

    def __init__(self, run: RunResult | None = None) -> None:
        self.run = run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RunLink)

    def __hash__(self) -> int:
        return 0

    def __deepcopy__(self, known: object) -> _RunLink:
        return self

    def __reduce__(self) -> tuple[type[_RunLink], tuple[()]]:
        return _RunLink, ()


class CandidateResult(Frozen):
    """One candidate: ``status`` is `ok` when it passed its gate, whatever its speed."""

    name: str
    backend: str
    precision: str
    options: dict[str, Any] = {}
    """What it was converted with beyond the backend's options in the configuration."""
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
    metrics: dict[str, float] = {}
    """Metrics of the user's own that have a value; an estimate where ``verdict.estimate`` is set."""
    lower_is_better: tuple[str, ...] = ()
    """Of the metrics, those of which less is better."""
    _link: _RunLink = PrivateAttr(default_factory=_RunLink)

    def of(self, run: RunResult) -> CandidateResult:
        """This candidate as one of ``run``."""
        copied = self.model_copy()
        copied._link = _RunLink(run)
        return copied

    def publish(self, folder: str | Path, *, again: bool = False) -> tuple[Publication, ...]:
        """As `RunResult.publish`, for a candidate that was got from a run.

        Raises:
            InputError: it is of no run, but read from a result.json, say.
        """
        if self._link.run is None:
            raise InputError(f"{self.name} is not known to be of a run: get it from one, as by run.candidate('NAME')")
        return self._link.run.publish(self.name, folder, again=again)

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
