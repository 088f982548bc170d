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
# From the narrowest on.
_WIDTHS = ("int8", "fp16", "bf16", "tf32", "fp32", "native")


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
    if accepted := _narrowest_estimated(fitting):
        return Choice(candidate=accepted.name, why="its estimate passed, and the config accepts estimates; neither its "
                                                   "parity nor its speed has been measured on a GPU")
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


def _narrowest_estimated(candidates: list[CandidateResult]) -> CandidateResult | None:
    """Of the candidates that are accepted without having run, the one of the lowest precision.

    They have no speed to choose by; on a GPU the lower precision is the faster one.
    """
    accepted = [c for c in candidates if c.status == "ok" and c.verdict and c.verdict.estimate]
    return min(accepted, key=lambda c: _WIDTHS.index(c.precision), default=None)


def fastest(candidates: Iterable[CandidateResult], objective: str) -> CandidateResult | None:
    """The candidate with the best ratio among those that passed and whose interval says faster."""
    faster = [c for c in candidates if c.status == "ok" and c.name != ORIGINAL and c.benchmark
              and _ratio(c, objective).faster]
    return max(faster, key=lambda c: _ratio(c, objective).value, default=None)


def ratio(candidate: CandidateResult, objective: str) -> Ratio | None:
    """Speed of ``candidate`` against the original in the objective, or None where it was not timed."""
    return _ratio(candidate, objective) if candidate.benchmark else None


def parity_error(candidate: CandidateResult) -> float | None:
    """One number for the parity axis (`Verdict.error`); None where the candidate was not judged."""
    return candidate.verdict.error if candidate.verdict else None


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
