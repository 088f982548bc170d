"""The gate of a whole run: requirements on its candidates, and a baseline that none of them may fall behind.

It is judged before anything is published: what misses it is withheld.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trt_pipeline import figures
from trt_pipeline.ci import baseline, regression, requirements
from trt_pipeline.ci.outcome import GateReport, Outcome, Regression, Standing, report
from trt_pipeline.ci.requirements import CHOSEN, Requirement
from trt_pipeline.config.schema import Config, Target
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish import select
from trt_pipeline.results import CandidateResult, Publication
from trt_pipeline.run_result import RunResult


class Checks(Frozen):
    """What is asked of a run, and where the answers go."""

    requirements: tuple[Requirement, ...] = ()
    strict: bool = False
    """What could not be measured on this machine counts as missed."""
    baseline: Path | None = None
    write_baseline: bool = False
    """Add the run to the baseline, if it passes."""
    junit: Path | None = None
    summary: Path | None = None
    """Markdown is appended to it, as GitHub's job pages want it."""

    @property
    def gated(self) -> bool:
        """Whether there is anything to miss."""
        return bool(self.requirements or self.baseline)


def checks(gate: Sequence[str] = (), *, strict: bool = False, baseline_file: str | Path | None = None,
           write_baseline: bool = False, junit: str | Path | None = None,
           summary: str | Path | None = None) -> Checks:
    """What is asked of a run, read and checked before any work is done.

    Args:
        gate: expressions and files of them, see `ci.requirements`.

    Raises:
        ConfigError: an expression or a file of them cannot be read.
        InputError: the baseline is not there, or damaged.
    """
    if write_baseline and baseline_file is None:
        raise ConfigError("--write-baseline needs --baseline FILE")
    made = Checks(requirements=requirements.read(gate), strict=strict, write_baseline=write_baseline,
                  **{name: Path(file) for name, file in (("baseline", baseline_file), ("junit", junit),
                                                         ("summary", summary)) if file is not None})
    if made.baseline:
        baseline.read(made.baseline, absent_ok=write_baseline)
    return made


def check(asked: Checks, config: Config, candidates: Mapping[str, Sequence[int]],
          metrics: Sequence[str] = ()) -> None:
    """Refuse, before any work, what a run of ``config`` with these ``candidates`` will not measure.

    Args:
        candidates: their names, each with the batch sizes that it will be timed at.
        metrics: names of metrics besides the configuration's.

    Raises:
        ConfigError: a candidate or metric is unknown, or a batch size is not measured.
    """
    requirements.check_names(asked.requirements, tuple(candidates))
    for one in asked.requirements:
        if (bound := one.bound) is None:
            continue
        timed = figures.as_speed(bound.figure)
        sizes = candidates.get(one.candidate or "", config.benchmark.batch_sizes)
        if timed and timed[1] not in sizes:
            raise ConfigError(f"the gate asks for {bound.figure}, which is not measured: add {timed[1]} to "
                              "benchmark.batch_sizes")
        own = bound.figure.removeprefix(figures.METRIC)
        known = (*config.metrics, *metrics)
        if own != bound.figure and own not in known:
            raise ConfigError(f"the gate asks for {bound.figure}, and {config.name} has "
                              f"{'the metrics ' + ', '.join(known) if known else 'no metric of its own'}")


def judge(asked: Checks, result: RunResult, targets: Sequence[Target] = ()) -> GateReport:
    """Hold the candidates of ``result`` against the requirements and the baseline.

    Args:
        result: a run of which nothing has been published yet.
        targets: what would be published for; none in a sweep, whose best candidate is judged instead.

    Raises:
        InputError: the baseline is damaged.
    """
    chosen = _chosen(result, targets)
    outcomes: list[Outcome] = []
    for one in asked.requirements:
        if one.candidate == CHOSEN:
            outcomes += [_outcome(one, _named(result, name), result, shown) for name, shown in chosen.items()]
        else:
            outcomes.append(_outcome(one, _named(result, one.candidate), result, ()))
    worse, notes, compared = _compare(asked, result)
    return report(tuple(outcomes), worse, asked.strict, compared, notes)


def withheld(found: GateReport, targets: Sequence[Target]) -> tuple[Publication, ...]:
    """What is published where the gate was missed: nothing, and why."""
    return tuple(Publication(target=_shown(target), candidate=None, why=f"the gate was missed: {found.reason}")
                 for target in targets)


def _chosen(result: RunResult, targets: Sequence[Target]) -> dict[str, tuple[str, ...]]:
    """Candidate -> the targets that get it, or none of them in a sweep; an empty name where a target gets nothing."""
    if not targets:
        return {result.best().name: ()}
    found: dict[str, tuple[str, ...]] = {}
    for target in targets:
        name = select.choose(target, result.candidates, result.objective).candidate or ""
        found[name] = (*found.get(name, ()), _shown(target))
    return found


def _shown(target: Target) -> str:
    return f"{target.kind} {target.version}"


def _named(result: RunResult, name: str) -> CandidateResult | None:
    return next((one for one in result.candidates if one.name == name), None)


def _outcome(asked: Requirement, candidate: CandidateResult | None, result: RunResult,
             targets: tuple[str, ...]) -> Outcome:
    standing: Standing
    if candidate is None:
        standing, detail = "missed", "there is nothing that it could get" if targets else "it is not in this run"
    elif asked.bound is None:
        standing = "met" if candidate.status == "ok" else "pending" if _awaits_gpu(candidate) else "missed"
        detail = f"it is {candidate.status}" + (f": {candidate.reason}" if candidate.reason else "")
    else:
        standing, detail = _against_bound(asked.bound, candidate, bool(result.environment.get("gpu")))
    return Outcome(requirement=str(asked), candidate=candidate.name if candidate else "", targets=targets,
                   standing=standing, detail=detail)


def _against_bound(bound: figures.Bound, candidate: CandidateResult, has_gpu: bool) -> tuple[Standing, str]:
    """What was estimated, or is of a conversion that is not finished, does not settle a bound."""
    unfinished = candidate.status == "pending-gpu"
    value = None if unfinished else figures.figure(candidate, bound.figure)
    if value is not None:
        about = "about " if candidate.verdict and candidate.verdict.estimate and bound.figure == "parity" else ""
        return "met" if bound.holds(candidate) else "missed", f"{bound.figure} is {about}{value:.4g}"
    if unfinished or _awaits_gpu(candidate) or (bound.figure == "gpu_memory_mb" and not has_gpu):
        return "pending", "not measured: it takes a GPU"
    # Silence is no pass: what failed or was dropped did not keep the bound.
    stopped = candidate.benchmark.stopped if candidate.benchmark else ""
    return "missed", f"not measured: it is {candidate.status}: {stopped or candidate.reason or 'it has no such figure'}"


def _awaits_gpu(candidate: CandidateResult) -> bool:
    return candidate.status == "pending-gpu" or bool(candidate.verdict and candidate.verdict.estimate)


def _compare(asked: Checks, result: RunResult) -> tuple[tuple[Regression, ...], tuple[str, ...], int]:
    """What is worse than in the baseline, what was not compared with it, and with how many runs it was."""
    if asked.baseline is None:
        return (), (), 0
    held = baseline.read(asked.baseline, absent_ok=asked.write_baseline)
    now = baseline.run_of(result)
    before = held.comparable(now, result.name)
    if not before:
        here = ", ".join(f"{key} {value}" for key, value in now.conditions.items())
        why = (f"{asked.baseline} has no run of {result.name} yet" if not held.models.get(result.name) else
               f"{asked.baseline} has no run of {result.name} on a machine like this ({here})")
        return (), (f"not compared: {why}",), 0
    return regression.compare(now, before, result.objective), tuple(regression.notes(now, before)), len(before)
