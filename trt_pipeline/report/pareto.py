"""The Pareto front as a table in a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from trt_pipeline import figures
from trt_pipeline.errors import GateError
from trt_pipeline.pareto import Point
from trt_pipeline.report import numbers
from trt_pipeline.report.terminal import printable
from trt_pipeline.run_result import RunResult


def table(result: RunResult, x: str | None = None, y: str = "parity") -> Table:
    """The candidates on the front of ``result`` over the figures ``x`` and ``y``, the best by ``x`` first.

    Args:
        x, y: as for `RunResult.pareto`.
    """
    one = figures.SPEEDUP + result.objective if x is None else figures.resolve(result, x)
    other = figures.resolve(result, y)
    # What a latency or a throughput was is one thing, how sure it is that it is better another.
    speeds = [figures.SPEEDUP + name for name in (one, other)
              if figures.as_speed(name) and not name.startswith(figures.SPEEDUP)]
    columns = list(dict.fromkeys((one, *speeds, other, "size_mb")))
    front = result.front(x, y)
    chosen = _chosen(result)
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold",
                 caption_justify="left", caption=_caption(result, chosen, bool(front)))
    made.add_column("candidate", overflow="fold", min_width=16)
    for column in columns:
        made.add_column(_heading(column), justify="right", no_wrap=True)
    for point in front:
        best = point.candidate.name == chosen
        cells = [_cell(point, column, one, other) for column in columns]
        made.add_row(Text(printable(point.candidate.label) + (" *" if best else ""),
                          style="bold" if best else ""), *map(Text, cells))
    return made


def _chosen(result: RunResult) -> str:
    try:
        return result.best().name
    except GateError:
        return ""


def _caption(result: RunResult, chosen: str, any_row: bool) -> Text:
    if not any_row:
        return Text("no candidate that passed its gate has both figures")
    return Text(f"* the best by {result.objective}" if chosen else "", justify="left")


def _heading(name: str) -> str:
    metric = name.removeprefix(figures.SPEEDUP)
    return name if metric == name else f"speedup [95 %]\n{metric}"


def _cell(point: Point, column: str, x: str, y: str) -> str:
    candidate = point.candidate
    if column.startswith(figures.SPEEDUP):
        return numbers.ratio(figures.interval(candidate, column))
    value = point.x if column == x else point.y if column == y else figures.figure(candidate, column)
    return "exact" if column == "parity" and value == 0 else figures.text(column, value)
