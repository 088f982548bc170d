"""Latency distributions: for each candidate and batch size the share of requests that were answered by when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trt_pipeline.benchmarking.interleaved import BatchResult
from trt_pipeline.benchmarking.statistics import Latency
from trt_pipeline.report import numbers, svg
from trt_pipeline.results import CandidateResult

_SIZE = (3.3, 2.2)
# Left, bottom, width and height of the axes in it.
_FRAME = (0.13, 0.2, 0.84, 0.74)
# Beyond this span a common linear scale would leave the fast ones no width.
_WIDEST_LINEAR = 12


@dataclass(frozen=True)
class Panel:
    """One candidate's distribution beside the original's, which ran in turn with it."""

    name: str
    passed: bool
    batch: BatchResult
    drawing: Markup


@dataclass(frozen=True)
class Group:
    """The panels of one signature and batch size, all with the same scale."""

    signature: str
    batch_size: int
    panels: tuple[Panel, ...]


def groups(candidates: Iterable[CandidateResult], original: str) -> tuple[Group, ...]:
    """A group for each signature and batch size at which anything but ``original`` has quantiles, by batch size."""
    timed = [(candidate, batch) for candidate in candidates if candidate.name != original and candidate.benchmark
             for batch in candidate.benchmark.batches if batch.candidate.quantiles and batch.original.quantiles]
    timed.sort(key=lambda pair: (pair[1].batch_size, pair[1].signature))
    found, prefixes = [], (f"distribution-{number}" for number in itertools.count(1))
    with svg.settings():
        for (size, signature), members in itertools.groupby(timed, key=lambda p: (p[1].batch_size, p[1].signature)):
            shown = list(members)
            low, high = _span([batch for _, batch in shown])
            found.append(Group(signature=signature, batch_size=size, panels=tuple(
                Panel(name=one.name, passed=one.status != "rejected", batch=batch,
                      drawing=_draw(next(prefixes), one, batch, low, high)) for one, batch in shown)))
    return tuple(found)


def _span(batches: Sequence[BatchResult]) -> tuple[float, float]:
    """From the fastest request to the 97.5th percentile of the slowest side, in ms: one straggler takes no width."""
    sides = [side.quantiles for batch in batches for side in (batch.original, batch.candidate)]
    low, high = min(side[0] for side in sides), max(side[-2] for side in sides)
    low = max(low, 1e-6)
    return low, max(high, low * 1.02)


def _draw(prefix: str, candidate: CandidateResult, batch: BatchResult, low: float, high: float) -> Markup:
    figure = svg.figure(*_SIZE)
    axes = figure.add_axes(_FRAME)
    logarithmic = high > _WIDEST_LINEAR * low
    if logarithmic:
        axes.set_xscale("log")
    axes.minorticks_off()
    margin = 0.04 * (high - low)
    bounds = (low / 1.1, high * 1.1) if logarithmic else (max(low - margin, 0.0), high + margin)
    axes.set_xticks(*svg.ticks(*bounds, logarithmic))
    axes.set_xlim(*bounds)
    axes.set_yticks([0, 50, 90], ["0", "50", "90 %"])
    axes.set_ylim(-2, 103)
    axes.grid(color=svg.GRID, linewidth=0.7)
    svg.plain(axes)
    axes.set_xlabel("ms", color=svg.MUTED, labelpad=1)
    colour = svg.BAD if candidate.status == "rejected" else svg.ACCENT
    axes.plot(batch.original.quantiles, _shares(batch.original), gid="original", color=svg.INK, linewidth=1.4,
              linestyle=(0, (4, 2)))
    axes.plot(batch.candidate.quantiles, _shares(batch.candidate), gid="candidate", color=colour, linewidth=2.2)
    return svg.element(figure, prefix, f"Latency distribution of {candidate.name} at batch size {batch.batch_size}",
                       f"{_told(candidate.name, batch.candidate)}; {_told('the original', batch.original)}.")


def _shares(side: Latency) -> list[float]:
    """Per cent of the requests that each of the quantiles stands for."""
    return [100 * place / (len(side.quantiles) - 1) for place in range(len(side.quantiles))]


def _told(name: str, side: Latency) -> str:
    return (f"{name}: fastest {numbers.milliseconds(side.quantiles[0])}, p50 {numbers.milliseconds(side.p50)}, "
            f"p90 {numbers.milliseconds(side.p90)}, slowest {numbers.milliseconds(side.quantiles[-1])}")
