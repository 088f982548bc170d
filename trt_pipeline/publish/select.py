"""Choose what a target gets: the fastest candidate that passed, that it can load, that beats the original."""

from __future__ import annotations

from collections.abc import Iterable

from trt_pipeline import figures, pareto
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.config.schema import Config, Target
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish import servers
from trt_pipeline.results import CandidateResult

ORIGINAL = figures.ORIGINAL
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
    backends = [backend(name.partition("/")[0]) for name in candidates]
    kinds = {kind for made in backends for kind in (made.kind, *made.also)} | {"savedmodel"}
    for target in config.targets:
        loadable = servers.loadable_kinds(target.kind, target.version)
        if not kinds & set(loadable):
            raise ConfigError(f"target {target.kind} {target.version} loads {', '.join(loadable)} and no candidate "
                              "makes that: add onnxruntime/fp32 to the candidates or name a version up to 25.02")


def form_for(target: Target, candidate: CandidateResult) -> Artifact | None:
    """The first form of ``candidate`` that ``target`` can load, as far as is known; None where there is none."""
    if candidate.artifact is None:
        return None
    made = candidate.artifact
    return made.form(kind for kind in (made.kind, *made.also)
                     if not servers.why_not_load(kind, made.built, target.kind, target.version))


def choose(target: Target, candidates: tuple[CandidateResult, ...], objective: str) -> Choice:
    """The best candidate for ``target`` by ``objective`` (``METRIC@BATCH``).

    ``why`` also says what the server has to have for it, and which candidates that passed were left
    out because of the TensorRT that their engines were built with.
    """
    choice = _best(target, tuple(c for c in candidates if form_for(target, c)), objective)
    notes = [_notes(target, c) for c in candidates if c.name == choice.candidate]
    notes += [f"{c.name} is left out: {why}" for c in candidates if (why := _why_left_out(target, c))]
    return choice.model_copy(update={"why": "; ".join(filter(None, (choice.why, *notes)))})


def chosen(target: Target, candidates: tuple[CandidateResult, ...], name: str, objective: str) -> Choice:
    """The candidate called ``name``, which somebody chose, if ``target`` can load it; ``why`` as `choose` has it."""
    candidate = next(c for c in candidates if c.name == name)
    if form_for(target, candidate) is None:
        loadable = ", ".join(servers.loadable_kinds(target.kind, target.version))
        return Choice(candidate=None, why=_why_left_out(target, candidate) or f"{name} is none of {loadable}")
    timed = ratio(candidate, objective)
    why = f"chosen by hand; {objective}: {timed} of the original" if timed else "chosen by hand"
    return Choice(candidate=name, why="; ".join(filter(None, (why, _notes(target, candidate)))))


def _notes(target: Target, chosen: CandidateResult) -> str:
    """What there is to know of ``chosen``, in the form that ``target`` gets."""
    form = form_for(target, chosen)
    assert form
    assert chosen.artifact
    timed = f"timed as a {chosen.artifact.kind}" if chosen.benchmark and form.kind != chosen.artifact.kind else ""
    minding = servers.what_to_mind(form.kind, form.built, target.kind, target.version)
    return "; ".join(filter(None, (timed, minding)))


def _best(target: Target, fitting: tuple[CandidateResult, ...], objective: str) -> Choice:
    loadable = servers.loadable_kinds(target.kind, target.version)
    if accepted := _narrowest_estimated(fitting):
        return Choice(candidate=accepted.name, why="its estimate passed, and the config accepts estimates; neither its "
                                                   "parity nor its speed has been measured on a GPU")
    winner = fastest(fitting, objective)
    if winner:
        return Choice(candidate=winner.name, why=f"{objective}: {ratio(winner, objective)} of the original")
    if any(c.name == ORIGINAL for c in fitting):
        return Choice(candidate=ORIGINAL, why=f"no candidate that it can load beats the original in {objective}")
    passed = [(found, c) for c in fitting if c.status == "ok" and (found := ratio(c, objective))]
    if not passed:
        return Choice(candidate=None, why=f"no candidate that it can load ({', '.join(loadable)}) passed its gate")
    speed, best = max(passed, key=lambda one: one[0].value)
    return Choice(candidate=best.name, why=f"it cannot load the original; {objective}: {speed} of it")


def _why_left_out(target: Target, candidate: CandidateResult) -> str:
    """Why ``candidate``, which passed, cannot be loaded though it has the right kind; empty where that is not so."""
    if candidate.status != "ok" or candidate.artifact is None or form_for(target, candidate):
        return ""
    made, loadable = candidate.artifact, servers.loadable_kinds(target.kind, target.version)
    return next((servers.why_not_load(kind, made.built, target.kind, target.version)
                 for kind in (made.kind, *made.also) if kind in loadable), "")


def _narrowest_estimated(candidates: tuple[CandidateResult, ...]) -> CandidateResult | None:
    """Of the candidates that are accepted without having run, the one of the lowest precision.

    They have no speed to choose by; on a GPU the lower precision is the faster one.
    """
    accepted = [c for c in candidates if c.status == "ok" and c.verdict and c.verdict.estimate]
    return min(accepted, key=lambda c: _WIDTHS.index(c.precision), default=None)


def fastest(candidates: Iterable[CandidateResult], objective: str) -> CandidateResult | None:
    """The candidate with the best ratio among those that passed and whose interval says faster."""
    faster = [(found.value, c) for c in candidates if c.status == "ok" and c.name != ORIGINAL
              and (found := ratio(c, objective)) and found.faster]
    return max(faster, key=lambda one: one[0])[1] if faster else None


def ratio(candidate: CandidateResult, objective: str) -> Ratio | None:
    """Speed of ``candidate`` against the original in the objective, or None where it was not timed."""
    metric, _, batch = objective.partition("@")
    if candidate.benchmark is None or not figures.timings(candidate, int(batch)):
        return None
    return candidate.benchmark.ratio(metric, int(batch))


def parity_error(candidate: CandidateResult) -> float | None:
    """One number for the parity axis (`Verdict.error`); None where the candidate was not judged."""
    return figures.figure(candidate, "parity")


def pareto_front(candidates: Iterable[CandidateResult], objective: str) -> list[CandidateResult]:
    """Candidates that passed and that no other beats in both speed and parity error, fastest first."""
    return [point.candidate for point in pareto.front(candidates, figures.SPEEDUP + objective, "parity")]
