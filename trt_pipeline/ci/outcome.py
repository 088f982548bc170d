"""What became of everything that was asked of a run."""

from __future__ import annotations

from typing import Literal

from trt_pipeline.frozen import Frozen

Standing = Literal["met", "missed", "pending"]
# Of what may be many, so many are named in one line.
_FEW = 3


class Outcome(Frozen):
    """One requirement and one candidate that it was held against."""

    requirement: str
    candidate: str
    """Empty where none could be chosen for the target."""
    targets: tuple[str, ...] = ()
    """What the candidate was chosen for; empty where the requirement names it."""
    standing: Standing
    detail: str
    """What was found: ``parity is 0.051``."""

    def __str__(self) -> str:
        where = f" for {', '.join(self.targets)}" if self.targets else ""
        who = f"{self.candidate}{where}" if self.candidate else f"nothing{where}"
        return f"{who}: {self.requirement}: {self.detail}"


class Regression(Frozen):
    """One respect in which a candidate is worse than all runs of the baseline."""

    candidate: str
    what: str
    """``latency_p50@1 of translate``, ``parity`` or ``status``."""
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.candidate}: {self.what}: {self.now}, the baseline has {self.before}"


class GateReport(Frozen):
    """The gate of a whole run: its outcomes, and how it compares with the baseline."""

    passed: bool
    reason: str = ""
    """The first of what was missed, in one line; empty where the gate is passed."""
    strict: bool = False
    """Whether what is pending counts as missed."""
    outcomes: tuple[Outcome, ...] = ()
    regressions: tuple[Regression, ...] = ()
    compared: int = 0
    """Runs of the baseline that were comparable."""
    notes: tuple[str, ...] = ()
    """What to know of the comparison with the baseline: what was left out of it and why, which versions changed."""


def report(outcomes: tuple[Outcome, ...], regressions: tuple[Regression, ...], strict: bool, compared: int,
           notes: tuple[str, ...]) -> GateReport:
    """The report of these; it is passed where nothing was missed and nothing got worse."""
    failing = {"missed", "pending"} if strict else {"missed"}
    wrong = [str(one) for one in outcomes if one.standing in failing] + [str(one) for one in regressions]
    more = f"; and {len(wrong) - _FEW} more" if len(wrong) > _FEW else ""
    return GateReport(passed=not wrong, reason="; ".join(wrong[:_FEW]) + more, strict=strict, outcomes=outcomes,
                      regressions=regressions, compared=compared, notes=notes)
