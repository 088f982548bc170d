"""A run in the terminal: bars while it works, a table and a few lines when it is done."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from trt_pipeline.publish import select
from trt_pipeline.report import numbers, wording
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult

# Below this width reasons stand under the table instead of in a column too narrow to read.
_ROOM_FOR_REASONS = 110
_STYLES = {"ok": "green", "rejected": "red", "failed": "red", "unsupported": "yellow", "pending-gpu": "yellow"}


def print_summary(result: RunResult, console: Console) -> None:
    """The candidates, what was published, and where the report is."""
    wide = console.width >= _ROOM_FOR_REASONS
    console.print(_table(result, wide))
    for candidate in result.candidates:
        if candidate.reason and not wide:
            _print(console, f"{candidate.name} {candidate.status}:", _STYLES[candidate.status])
            console.print(Padding(Text(_printable(candidate.reason), overflow="fold"), (0, 0, 0, 2)))
    console.print()
    for publication in result.publications:
        _print(console, wording.publication(publication), "bold" if publication.new else "")
    if not result.publications:
        _print(console, wording.verdict(result), "bold")
    _print(console, f"report: {Path(result.folder) / 'report.html'}")


class Bars:
    """Shows how a run goes, on stderr: a bar for the stage at work, one line for each judged candidate.

    Bars only appear where stderr is a terminal; the lines always do.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
                   TimeElapsedColumn())
        self._bars = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._current: TaskID | None = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._bars.stop()

    def stage(self, name: str) -> None:
        """Replace the bar by one for the stage ``name``, whose length is not known yet."""
        if self._current is not None:
            self._bars.remove_task(self._current)
        self._current = self._bars.add_task(_printable(name), total=None)

    def progress(self, done: int, total: int) -> None:
        """Move the stage's bar."""
        if self._current is not None:
            self._bars.update(self._current, completed=done, total=total or None)

    def candidate(self, result: CandidateResult) -> None:
        """Print what became of a candidate."""
        words = [f"{result.name}: {result.status}"]
        if result.benchmark and result.name != select.ORIGINAL:
            first = result.benchmark.batches[0].batch_size
            words.append(f"p50 {result.benchmark.ratio('latency_p50', first)} at batch size {first}")
        if result.verdict and result.name != select.ORIGINAL:
            words.append(f"parity error {wording.parity(result)}")
        if result.reason:
            words.append(result.reason)
        _print(self.console, ", ".join(words), _STYLES[result.status] if result.status != "ok" else "")


def _table(result: RunResult, wide: bool) -> Table:
    sizes = sorted({b.batch_size for c in result.candidates if c.benchmark for b in c.benchmark.batches})
    metric, _, batch = result.objective.partition("@")
    largest = sizes[-1] if sizes else int(batch)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1 if wide else 0, 0, 0), show_edge=False, header_style="bold")
    table.add_column("candidate", overflow="fold", min_width=16, max_width=18)
    table.add_column("status", overflow="fold", no_wrap=True)
    table.add_column(f"p50@{batch}", justify="right", no_wrap=True)
    table.add_column("ratio [95 %]" if metric == "latency_p50" else f"{metric} ratio", justify="right", no_wrap=True)
    table.add_column(f"thr@{largest}", justify="right", no_wrap=True)
    table.add_column("parity", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    if wide:
        table.add_column("why", overflow="fold", ratio=1)
    for candidate in result.candidates:
        timing = wording.at_objective(candidate, result.objective)
        throughput = candidate.benchmark.ratio("throughput", largest) if candidate.benchmark else None
        cells = [
            Text(_printable(candidate.name)), Text(candidate.status, style=_STYLES[candidate.status]),
            Text(numbers.milliseconds(timing.candidate.p50 if timing else None)),
            Text(numbers.ratio(select.ratio(candidate, result.objective))),
            Text(numbers.times(throughput.value) if throughput else numbers.NONE),
            Text(wording.parity(candidate).replace("not comparable", "n/a")),
            Text(numbers.size(candidate.size_bytes))]
        table.add_row(*cells, *([Text(_printable(candidate.reason))] if wide else []))
    return table


def _print(console: Console, line: str, style: str = "") -> None:
    """One line of text as it is: no markup, no highlighting, wrapped by the terminal and nowhere else."""
    console.print(Text(_printable(line), style=style), soft_wrap=True)


def _printable(text: str) -> str:
    """``text`` on one line, without the control characters with which it could command a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
