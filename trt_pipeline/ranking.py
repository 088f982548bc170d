"""The best candidate of a run by any figure, within bounds on others, and why each of the rest is not it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trt_pipeline import figures, pareto
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.errors import GateError
from trt_pipeline.figures import ORIGINAL, SPEEDUP, Bound
from trt_pipeline.publish import select
from trt_pipeline.results import CandidateResult
from trt_pipeline.stages.run_folder import finalize_command

if TYPE_CHECKING:
    from trt_pipeline.run_result import RunResult


def best(run: RunResult, objective: str | None = None, subject_to: Sequence[str | Bound] = ()) -> CandidateResult:
    """As `RunResult.best`."""
    wanted, bounds = _objective(run, objective), _bounds(run, subject_to)
    chosen = _chosen(run, wanted, bounds)
    if chosen is None:
        raise GateError(_nobody(run, wanted, bounds))
    return chosen


def reasons(run: RunResult, objective: str | None = None, subject_to: Sequence[str | Bound] = ()) -> dict[str, str]:
    """As `RunResult.reasons`."""
    wanted, bounds = _objective(run, objective), _bounds(run, subject_to)
    chosen = _chosen(run, wanted, bounds)
    return {c.name: " ".join(_why_out(run, c, chosen, wanted, bounds).split())
            for c in run.candidates if c is not chosen}


def _chosen(run: RunResult, objective: str, bounds: Sequence[Bound]) -> CandidateResult | None:
    keeping = [c for c in run.candidates if c.status == "ok" and all(bound.holds(c) for bound in bounds)]
    return _fastest(keeping, objective) if figures.as_speed(objective) else _first(run, keeping, objective)


def _objective(run: RunResult, given: str | None) -> str:
    return figures.resolve(run, given) if given is not None else run.objective


def _bounds(run: RunResult, given: Sequence[str | Bound]) -> tuple[Bound, ...]:
    # One text is a sequence of letters, too.
    several = [given] if isinstance(given, (str, Bound)) else given
    batch_size = int(run.objective.partition("@")[2])
    parsed = [Bound.parse(one, batch_size) if isinstance(one, str) else one for one in several]
    for bound in parsed:
        figures.resolve(run, bound.figure)
    return tuple(parsed)


def _fastest(keeping: Sequence[CandidateResult], objective: str) -> CandidateResult | None:
    """The fastest; where the original is among them, one that is faster than it beyond doubt, or itself."""
    if found := select.fastest(keeping, objective.removeprefix(SPEEDUP)):
        return found
    if original := next((c for c in keeping if c.name == ORIGINAL), None):
        return original
    timed = [(ratio.value, c) for c in keeping if (ratio := _speedup(c, objective))]
    return max(timed, key=lambda one: one[0])[1] if timed else None


def _first(run: RunResult, keeping: Sequence[CandidateResult], objective: str) -> CandidateResult | None:
    """The best by a figure that has no interval; of equals the faster one by the run's own objective."""
    known = [(figures.gain(objective, value, c), _gain_in_speed(c, run.objective), c) for c in keeping
             if (value := figures.figure(c, objective)) is not None]
    return max(known, key=lambda one: one[:2])[2] if known else None


def _nobody(run: RunResult, objective: str, bounds: Sequence[Bound]) -> str:
    """Why there is no best candidate: the bound that the nearest one misses, where bounds are what is missed."""
    passed = [c for c in run.candidates if c.status == "ok"]
    if not passed:
        return f"no candidate of {run.name} passed its gate"
    asked = " and ".join(map(str, bounds))
    if not bounds:
        return f"no candidate of {run.name} that passed its gate was measured in {objective}"
    missed = [[bound for bound in bounds if not bound.holds(c)] for c in passed]
    nearest = min(range(len(passed)), key=lambda number: len(missed[number]))
    if not missed[nearest]:
        return f"no candidate of {run.name} that keeps {asked} was measured in {objective}"
    return (f"no candidate of {run.name} that passed its gate keeps {asked}: {passed[nearest].name} "
            + "; ".join(_missed(passed[nearest], bound) for bound in missed[nearest]))


def _why_out(run: RunResult, candidate: CandidateResult, chosen: CandidateResult | None, objective: str,
             bounds: Sequence[Bound]) -> str:
    if candidate.status != "ok":
        return _status(run, candidate)
    if missed := [bound for bound in bounds if not bound.holds(candidate)]:
        return "; ".join(_missed(candidate, bound) for bound in missed)
    if figures.figure(candidate, objective) is None:
        return _unmeasured(candidate, objective)
    assert chosen, "a candidate that passed, keeps the bounds and has the objective could be chosen"
    text = (_slower if figures.as_speed(objective) else _worse)(candidate, chosen, objective)
    by = _dominators(run, candidate, objective)
    if chosen.name in by:
        return f"{text}, and no further from the original"
    return f"{text}; {by[0]} dominates it in this and in parity" if by else text


def _status(run: RunResult, candidate: CandidateResult) -> str:
    text = f"{candidate.status}: {candidate.reason}" if candidate.reason else candidate.status
    if candidate.status != "pending-gpu":
        return text
    return f"{text}; there run: {finalize_command(run.folder, candidate.name, 'NEW_FOLDER')}"


def _missed(candidate: CandidateResult, bound: Bound) -> str:
    value = figures.figure(candidate, bound.figure)
    if value is None:
        return _unmeasured(candidate, bound.figure)
    by = f" by {figures.text(bound.figure, abs(value - bound.value))}" if value != bound.value else ""
    return f"misses {bound}{by}: it has {figures.text(bound.figure, value)}"


def _unmeasured(candidate: CandidateResult, name: str) -> str:
    speed = figures.as_speed(name)
    why = ""
    if candidate.benchmark is None and (speed or name.startswith(("memory", "gpu_memory", "load", "first_request"))):
        why = ": it was not timed"
    elif speed and candidate.benchmark and candidate.benchmark.stopped:
        why = f": {candidate.benchmark.stopped}"
    elif name == "parity" and candidate.verdict:
        why = ": an output cannot be compared at all"
    return f"{name} was not measured{why}"


def _slower(candidate: CandidateResult, chosen: CandidateResult, objective: str) -> str:
    """How much faster the chosen one is, by the ratio of their ratios to the original."""
    metric = objective.removeprefix(SPEEDUP)
    own, other = _speedup(candidate, objective), _speedup(chosen, objective)
    assert own
    if chosen.name == ORIGINAL:
        return f"not faster than the original beyond doubt: {own} in {metric}"
    # A candidate can be chosen by its speed alone only where it was timed.
    assert other
    apart = _apart(other, own)
    if apart.faster:
        return f"slower: {chosen.name} is {apart} as fast in {metric}"
    if candidate.name != ORIGINAL and not own.faster:
        return f"not faster than the original beyond doubt: {own} in {metric}"
    return f"not told from {chosen.name}, which is {apart} as fast in {metric}"


def _worse(candidate: CandidateResult, chosen: CandidateResult, objective: str) -> str:
    own, other = (figures.figure(c, objective) for c in (candidate, chosen))
    if own == other:
        return f"no better than {chosen.name} in {objective} ({figures.text(objective, own)}), and no faster"
    return f"{objective} is {figures.text(objective, own)}: {chosen.name} has {figures.text(objective, other)}"


def _dominators(run: RunResult, candidate: CandidateResult, objective: str) -> list[str]:
    """Who is better in the objective, if that has an interval beyond doubt, and no worse in parity."""
    if objective == "parity":
        return []
    known = pareto.points(run.candidates, objective, "parity")
    own = next((point for point in known if point.candidate is candidate), None)
    by = [point.candidate for point in known if own and pareto.dominates(point, own, objective, "parity")]
    if own_speed := _speedup(candidate, objective):
        by = [c for c in by if (speed := _speedup(c, objective)) and _apart(speed, own_speed).faster]
    return [c.name for c in by]


def _apart(one: Ratio, other: Ratio) -> Ratio:
    """How many times as fast as the ``other`` the ``one`` is, both told by their ratios to the original."""
    return Ratio(value=one.value / other.value, low=one.low / other.high, high=one.high / other.low)


def _speedup(candidate: CandidateResult, objective: str) -> Ratio | None:
    speed = figures.as_speed(objective)
    return figures.speedup(candidate, *speed) if speed else None


def _gain_in_speed(candidate: CandidateResult, objective: str) -> float:
    ratio = _speedup(candidate, objective)
    return ratio.value if ratio else 0.0
