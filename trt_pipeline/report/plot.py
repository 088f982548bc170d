"""The latency/parity scatter plot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from trt_pipeline.frozen import Frozen
from trt_pipeline.report import numbers, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_PASSED, _REJECTED, _ORIGINAL = svg.ACCENT, svg.BAD, svg.INK
_LONGEST_LABEL = 24
_MARK_POINTS = 7.0
# Where a label may stand, nearest first: direction, and its alignment to that side.
_SIDES = ((1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top"),
          (0.7, 0.7, "left", "bottom"), (0.7, -0.7, "left", "top"), (-0.7, 0.7, "right", "bottom"),
          (-0.7, -0.7, "right", "top"))
_DISTANCES = (8, 16, 26, 38, 52, 68)


class Mark(Frozen):
    """One judged candidate in the plot."""

    name: str
    latency_ms: float
    error: float
    passed: bool
    original: bool = False
    on_front: bool = False

    def __str__(self) -> str:
        standing = "the original" if self.original else "passed its gate" if self.passed else "rejected"
        front = ", on the Pareto front" if self.on_front else ""
        return (f"{self.name}: {numbers.milliseconds(self.latency_ms)}, parity error {numbers.error(self.error)}, "
                f"{standing}{front}")


def scatter(marks: Sequence[Mark], latency_label: str) -> Markup:
    """An ``<svg>`` element with a mark for each of ``marks``; the Pareto front is joined."""
    with svg.settings():
        figure = svg.figure(4.8, 3.7, layout="constrained")
        axes = figure.add_subplot()
        heights = _draw_axes(axes, marks, latency_label)
        _draw_marks(axes, marks, heights)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _draw_labels(axes, marks, heights)
        description = ". ".join(str(mark) for mark in marks)
        return svg.element(figure, "plot", f"{latency_label} against parity error", f"{description}.",
                           {f"mark-{number}": str(mark) for number, mark in enumerate(marks)})


def _draw_axes(axes: Axes, marks: Sequence[Mark], latency_label: str) -> list[float]:
    """Scales, ticks and grid; returns each mark's height, with exact ones on the floor below the rest."""
    errors = [mark.error for mark in marks if mark.error > 0]
    low = math.floor(math.log10(min(errors, default=1e-6)))
    high = max(math.ceil(math.log10(max(errors, default=1e-6))), low + 1)
    step = max(1, math.ceil((high - low) / 6))
    floor = low - step
    decades = list(range(low, high + 1, step))
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_yticks([10.0**floor, *(10.0**d for d in decades)],
                    ["exact", *(svg.power(d) for d in decades)])
    axes.set_ylim(10 ** (floor - 0.4 * step), 10 ** (high + 0.4 * step))
    axes.axhline(10 ** (floor + 0.5 * step), color=svg.MUTED, linewidth=0.8, linestyle=(0, (2, 3)))

    fastest, slowest = min(m.latency_ms for m in marks), max(m.latency_ms for m in marks)
    if slowest > 20 * fastest > 0:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(*svg.ticks(fastest / 1.6, slowest * 1.9, logarithmic=True, most=6))
        axes.set_xlim(fastest / 1.6, slowest * 1.9)
    else:
        margin = max(slowest - fastest, 0.2 * slowest, 1e-6) * 0.2
        axes.set_xlim(max(0.0, fastest - margin), slowest + 1.2 * margin)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(f"{latency_label}, ms (left is faster)", color=svg.MUTED)
    axes.set_ylabel("parity error (lower is closer)", color=svg.MUTED)
    axes.grid(color=svg.GRID, linewidth=0.7)
    svg.plain(axes)
    return [mark.error or 10.0**floor for mark in marks]


def _draw_marks(axes: Axes, marks: Sequence[Mark], heights: Sequence[float]) -> None:
    front = sorted((m.latency_ms, y) for m, y in zip(marks, heights, strict=True) if m.on_front)
    axes.plot([x for x, _ in front], [y for _, y in front], color=_PASSED, linewidth=1.2, alpha=0.6, gid="front")
    for number, (mark, y) in enumerate(zip(marks, heights, strict=True)):
        colour = _ORIGINAL if mark.original else _PASSED if mark.passed else _REJECTED
        axes.scatter([mark.latency_ms], [y], s=_MARK_POINTS**2, marker="D" if mark.original else "o", zorder=3,
                     facecolor=colour if mark.passed else svg.SURFACE, edgecolor=colour, linewidth=1.6, clip_on=False,
                     gid=f"mark-{number}")


def _draw_labels(axes: Axes, marks: Sequence[Mark], heights: Sequence[float]) -> None:
    """Put each name where it covers no mark and no other name, as near to its mark as that allows."""
    from matplotlib.text import Text

    frame = axes.bbox.frozen()
    edge = axes.figure.bbox
    places = [axes.transData.transform((m.latency_ms, y)) for m, y in zip(marks, heights, strict=True)]
    taken = [_box(x - _MARK_POINTS / 2, y - _MARK_POINTS / 2, _MARK_POINTS, _MARK_POINTS) for x, y in places]
    room = _box(frame.x0, frame.y0, edge.x1 - frame.x0, edge.y1 - frame.y0)
    for mark, y in zip(marks, heights, strict=True):
        best: tuple[float, Annotation, Bbox] | None = None
        for label in _labels(axes, mark, y):
            # The words alone: the annotation's own extent counts its line, which touches its mark.
            label.get_window_extent()
            extent = Text.get_window_extent(label)
            covered = max(_area(extent) - _overlap(extent, room), 0.0) + sum(_overlap(extent, other) for other in taken)
            if best is not None and covered >= best[0]:
                label.remove()
                continue
            if best is not None:
                best[1].remove()
            best = covered, label, extent
            if covered < 1e-6:
                break
        if best is not None:
            taken.append(best[2])


def _labels(axes: Axes, mark: Mark, y: float) -> Iterator[Annotation]:
    name = mark.name if len(mark.name) <= _LONGEST_LABEL else f"{mark.name[:_LONGEST_LABEL - 1]}…"
    for distance in _DISTANCES:
        for dx, dy, horizontal, vertical in _SIDES:
            far = {"arrowstyle": "-", "color": svg.MUTED, "linewidth": 0.6} if distance > _DISTANCES[0] else None
            yield axes.annotate(name, (mark.latency_ms, y), xytext=(dx * distance, dy * distance), zorder=2.5,
                                textcoords="offset points", ha=horizontal, va=vertical, parse_math=False,
                                arrowprops=far, annotation_clip=False)


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(x, y, width, height)


def _area(box: Bbox) -> float:
    return float(box.width * box.height)


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that both cover."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))
