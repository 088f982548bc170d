"""Choose what a target gets: the fastest candidate that passed, that it can load, that beats the original."""

from __future__ import annotations

from collections.abc import Iterable

from trt_pipeline.backends import backend
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.config.schema import Config, Target
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish import servers
from trt_pipeline.results import CandidateResult

ORIGINAL = "original"


class Choice(Frozen):
    """What a target gets, and why. ``candidate`` is None where it can get nothing."""

    candidate: str | None
    why: str


def check_targets(config: Config, candidates: Iterable[str]) -> None:
    """Refuse, before any work, a target that none of ``candidates`` can be loaded by.

    Raises:
        ConfigError: names the target, what it loads and what to change.
    """
    kinds = {backend(name.partition("/")[0]).kind for name in candidates} | {"savedmodel"}
    for target in config.targets:
        loadable = servers.loadable_kinds(target.kind, target.version)
        if not kinds & set(loadable):
            raise ConfigError(f"target {target.kind} {target.version} loads {', '.join(loadable)} and no candidate "
                              "makes that: add onnxruntime/fp32 to the candidates or name a version up to 25.02")


def choose(target: Target, candidates: tuple[CandidateResult, ...], objective: str) -> Choice:
    """The best candidate for ``target`` by ``objective`` (``METRIC@BATCH``)."""
    loadable = servers.loadable_kinds(target.kind, target.version)
    fitting = [c for c in candidates if c.artifact and c.artifact.kind in loadable]
    winner = fastest(fitting, objective)
    if winner:
        return Choice(candidate=winner.name, why=f"{objective}: {ratio(winner, objective)} of the original")
    if any(c.name == ORIGINAL for c in fitting):
        return Choice(candidate=ORIGINAL, why=f"no candidate that it can load beats the original in {objective}")
    passed = [c for c in fitting if c.status == "ok" and c.benchmark]
    if not passed:
        return Choice(candidate=None, why=f"no candidate that it can load ({', '.join(loadable)}) passed its gate")
    best = max(passed, key=lambda c: _ratio(c, objective).value)
    return Choice(candidate=best.name, why=f"it cannot load the original; {objective}: {ratio(best, objective)} of it")


def fastest(candidates: Iterable[CandidateResult], objective: str) -> CandidateResult | None:
    """The candidate with the best ratio among those that passed and whose interval says faster."""
    faster = [c for c in candidates if c.status == "ok" and c.name != ORIGINAL and c.benchmark
              and _ratio(c, objective).faster]
    return max(faster, key=lambda c: _ratio(c, objective).value, default=None)


def ratio(candidate: CandidateResult, objective: str) -> Ratio | None:
    """Speed of ``candidate`` against the original in the objective, or None where it was not timed."""
    return _ratio(candidate, objective) if candidate.benchmark else None


def parity_error(candidate: CandidateResult) -> float | None:
    """One number for the parity axis: the largest error of any output.

    Floats count their largest scaled error, tokens the share that differs; None where not judged,
    or where an output could not be compared at all.
    """
    if not candidate.verdict or not all(output.figures for output in candidate.verdict.outputs):
        return None
    whole = [output.figures[0] for output in candidate.verdict.outputs]
    return max([0.0, *(f.max_scaled for f in whole if f.max_scaled is not None),
                *(1 - f.token_match for f in whole if f.token_match is not None)])


def pareto_front(candidates: Iterable[CandidateResult], objective: str) -> list[CandidateResult]:
    """Candidates that passed and that no other beats in both speed and parity error, fastest first."""
    points = [(c, r.value, e) for c in candidates if c.status == "ok"
              and (r := ratio(c, objective)) is not None and (e := parity_error(c)) is not None]
    front = [c for c, speed, error in points
             if not any(s >= speed and e <= error and (s, e) != (speed, error) for _, s, e in points)]
    return sorted(front, key=lambda c: -_ratio(c, objective).value)


def _ratio(candidate: CandidateResult, objective: str) -> Ratio:
    assert candidate.benchmark
    metric, _, batch = objective.partition("@")
    return candidate.benchmark.ratio(metric, int(batch))
