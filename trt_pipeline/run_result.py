"""What a whole run found, as report.json holds it and Python callers get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trt_pipeline import figures, frame, pareto, ranking
from trt_pipeline.calibration.facts import CalibrationFacts
from trt_pipeline.ci.outcome import GateReport
from trt_pipeline.errors import GateError
from trt_pipeline.figures import Bound
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.pareto import Point
from trt_pipeline.parity.reference import OutputReference
from trt_pipeline.results import CandidateResult, Publication, StageCost

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped,unused-ignore]
    from rich.table import Table


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
    gate: GateReport | None = None
    """What was asked of the run besides, before anything was published; None where nothing was."""
    calibration: CalibrationFacts | None = None
    """Of the ranges that candidates went by; None where none of them needed any."""

    def candidate(self, name: str) -> CandidateResult:
        """The candidate called ``backend/precision``. Raises KeyError where there is none."""
        for found in self.candidates:
            if found.name == name:
                return found
        raise KeyError(name)

    def best(self, objective: str | None = None, subject_to: Sequence[str | Bound] = ()) -> CandidateResult:
        """The best candidate by ``objective`` among those that passed their gate and keep all bounds.

        By a latency or throughput it is the one of the highest `speedup`; where the original keeps the bounds too,
        only one whose whole interval is above 1, and the original if there is none. By any other figure it is the
        one with the best value; of equals the faster one.

        Args:
            objective: a figure (`figures`); this run's by default. ``latency_p99`` without ``@BATCH`` is the one at
                the batch size of this run's.
            subject_to: bounds such as ``latency_p99@1 <= 20`` or ``size_mb < 10``; what was not measured keeps none.

        Raises:
            ConfigError: a figure or bound is unknown, or nobody was measured at that batch size.
            GateError: no candidate passed and keeps the bounds; the message names the nearest and what it misses.
        """
        return ranking.best(self, objective, subject_to)

    def reasons(self, objective: str | None = None, subject_to: Sequence[str | Bound] = ()) -> dict[str, str]:
        """Why each candidate is not `best`, in one line each: its status, the bound that it misses, who is faster.

        Where no candidate is the best, all are in it.

        Raises:
            ConfigError: as `best`.
        """
        return ranking.reasons(self, objective, subject_to)

    def pareto(self, x: str | None = None, y: str = "parity", *, include_rejected: bool = False
               ) -> list[CandidateResult]:
        """Candidates that passed and that no other beats in both figures, the best by ``x`` first.

        Args:
            x, y: figures (`figures`), as `best` takes them; ``x`` is the speedup by this run's objective by default.
            include_rejected: also those that were measured and did not pass their gate.

        Raises:
            ConfigError: a figure is unknown, or nobody was measured at that batch size.
        """
        return [point.candidate for point in self.front(x, y, include_rejected=include_rejected)]

    def front(self, x: str | None = None, y: str = "parity", *, include_rejected: bool = False) -> list[Point]:
        """As `pareto`, with where each stands: a latency or throughput is free of the machine's drift
        (`figures.compared`)."""
        one = figures.SPEEDUP + self.objective if x is None else figures.resolve(self, x)
        return pareto.front(self.candidates, one, figures.resolve(self, y), include_rejected=include_rejected)

    def table(self, x: str | None = None, y: str = "parity") -> Table:
        """The Pareto front over two figures, for a terminal: ``rich.print(run.table())``. Arguments as for `pareto`."""
        from trt_pipeline.report.pareto import table

        return table(self, x, y)

    def to_frame(self, by: Literal["candidate", "batch"] = "candidate") -> DataFrame:
        """What was found, as a table to sort, plot and write.

        Args:
            by: a row for each ``candidate``, with every figure (`figures`), of speedups the 95 % interval besides
                (``..._low``, ``..._high``); or one for each signature and ``batch`` size that one was timed at, with
                the original's timings of the same minutes.

        Returns:
            Numbers as Float64 and Int64, NA where nothing was measured; the index is ``name``, or ``name``,
            ``signature`` and ``batch_size``.
        """
        return frame.to_frame(self, by)

    def publish(self, candidate: str, folder: str | Path, *, again: bool = False) -> tuple[Publication, ...]:
        """Publish one candidate of this run to ``folder``, for the targets of its configuration.

        Args:
            candidate: its name.
            folder: the model's folder, ``serving/NAME``; there it becomes the next version.
            again: even if it is the newest version already.

        Raises:
            KeyError: there is no such candidate.
            GateError: it did not pass its gate, or no target can load it.
            InputError: its files are gone, or the folder is not to be written to.
        """
        chosen = self.candidate(candidate)
        if chosen.status != "ok":
            raise GateError(f"{candidate} is {chosen.status}: only what passed its gate is published"
                            + (f" ({chosen.reason})" if chosen.reason else ""))
        from trt_pipeline.stages import publishing

        return publishing.publish(self, chosen, Path(folder), again)

    def model_post_init(self, context: Any) -> None:
        """Make the candidates its own: what one was got from is what it is published by."""
        self.__dict__["candidates"] = tuple(candidate.of(self) for candidate in self.candidates)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunResult:
        """As Pydantic does; the candidates are the copy's then."""
        copied = super().model_copy(update=update, deep=deep)
        copied.model_post_init(None)
        return copied

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.model_post_init(None)
