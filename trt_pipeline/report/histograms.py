"""Which values the tensors of a calibration took, and what of them int8 covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from trt_pipeline.calibration.facts import TensorHistogram
from trt_pipeline.report import numbers, svg

_SIZE = (3.3, 2.0)
# Left, bottom, width and height of the axes in it.
_FRAME = (0.13, 0.14, 0.84, 0.8)
_FLOOR = 0.7  # of the logarithmic scale: below a single element


@dataclass(frozen=True)
class Histogram:
    """One tensor."""

    known: TensorHistogram
    drawing: Markup


def drawn(histograms: Iterable[TensorHistogram]) -> tuple[Histogram, ...]:
    """Each of ``histograms`` with its drawing, an ``<svg>`` element."""
    with svg.settings():
        return tuple(Histogram(known=one, drawing=_draw(f"histogram-{number}", one))
                     for number, one in enumerate(histograms, 1))


def clipped(share: float) -> str:
    """How much of a tensor its range leaves out; only of none it reads 0 %."""
    return f"{numbers.error(100 * share)} %"


def _draw(prefix: str, one: TensorHistogram) -> Markup:
    figure = svg.figure(*_SIZE)
    axes = figure.add_axes(_FRAME)
    low, high = min(one.low, one.range[0]), max(one.high, one.range[1])
    margin = 0.03 * (high - low) or max(abs(high), 1e-6)
    if one.high > one.low:
        edges, counts = np.linspace(one.low, one.high, len(one.counts) + 1), np.array(one.counts, np.float64)
    else:  # a single value: one bar around it
        edges, counts = one.low + margin * np.array([-0.05, 0.05]), np.array([sum(one.counts)], np.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    inside = (middles >= one.range[0]) & (middles <= one.range[1])
    if not one.clipped:  # a middle may lie beside its elements
        inside[:] = True
    top = max(counts.max(initial=1.0), 1.0)
    axes.set_yscale("log")
    axes.minorticks_off()
    exponents = range(0, int(np.ceil(np.log10(top))) + 1, max(1, int(np.ceil(np.log10(top) / 3))))
    axes.set_yticks([10.0**e for e in exponents], [svg.power(e) if e else "1" for e in exponents])
    axes.set_ylim(_FLOOR, top * 2)
    axes.set_xticks(*svg.ticks(low - margin, high + margin, logarithmic=False))
    axes.set_xlim(low - margin, high + margin)
    axes.axvspan(*one.range, facecolor=svg.ACCENT, alpha=0.12, gid="range")
    for gid, part, colour in (("covered", inside, svg.ACCENT), ("clipped", ~inside, svg.BAD)):
        if part.any():
            axes.stairs(np.where(part & (counts > 0), counts, _FLOOR), edges, baseline=_FLOOR, fill=True, color=colour,
                        gid=gid)
    for end in one.range:
        axes.axvline(end, color=svg.INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.grid(axis="y", color=svg.GRID, linewidth=0.7)
    svg.plain(axes)
    return svg.element(figure, prefix, f"Histogram of {one.tensor}",
                       f"Values seen from {one.low:.4g} to {one.high:.4g}; int8 covers {one.range[0]:.4g} to "
                       f"{one.range[1]:.4g}; {clipped(one.clipped)} of the elements are outside. Elements by value "
                       "on a logarithmic scale.")
