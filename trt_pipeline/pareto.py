"""The Pareto front of candidates over any two figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from trt_pipeline import figures
from trt_pipeline.results import CandidateResult


class Point(NamedTuple):
    """A candidate and where it stands, in the figures' units (`figures.compared`)."""

    candidate: CandidateResult
    x: float
    y: float


def points(candidates: Iterable[CandidateResult], x: str, y: str, *, include_rejected: bool = False) -> list[Point]:
    """Where the candidates stand that passed, or that were rejected too, and have both figures; in their order.

    Raises:
        ConfigError: ``x`` or ``y`` is no figure.
    """
    everyone = tuple(candidates)
    statuses = ("ok", "rejected") if include_rejected else ("ok",)
    # Drift is told from all that were timed, whatever became of them.
    known = ((c, figures.compared(c, x, everyone), figures.compared(c, y, everyone)) for c in everyone
             if c.status in statuses)
    return [Point(c, one, other) for c, one, other in known if one is not None and other is not None]


def front(candidates: Iterable[CandidateResult], x: str, y: str, *, include_rejected: bool = False) -> list[Point]:
    """Those of `points` that no other one dominates, the best by ``x`` first. Equals stand on it together."""
    known = points(candidates, x, y, include_rejected=include_rejected)
    left = [one for one in known if not any(dominates(other, one, x, y) for other in known)]
    return sorted(left, key=lambda point: -figures.gain(x, point.x, point.candidate))


def dominates(one: Point, other: Point, x: str, y: str) -> bool:
    """Whether ``one`` is as good as ``other`` in both figures, and better in one of them."""
    mine, theirs = ((figures.gain(x, point.x, point.candidate), figures.gain(y, point.y, point.candidate))
                    for point in (one, other))
    return mine != theirs and mine[0] >= theirs[0] and mine[1] >= theirs[1]
