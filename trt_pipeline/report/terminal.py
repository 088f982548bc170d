"""A run in the terminal: bars while it works, a table and a few lines when it is done."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from types import TracebackType

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.inspection import Inspection
from trt_pipeline.publish import select
from trt_pipeline.report import numbers, wording
from trt_pipeline.report.notebook import LiveCell
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
        if covered := wording.coverage(candidate):
            _print(console, f"{candidate.name} in TensorRT: {covered}")
        if lowered := wording.precision(candidate):
            _print(console, f"{candidate.name} in {candidate.precision}: {lowered}")
        for note in candidate.artifact.notes if candidate.artifact else ():
            _print(console, f"{candidate.name}: {note}")
        if candidate.islands:
            _print(console, f"{candidate.name} islands: {wording.islands(candidate.islands)}")
            if traded := wording.trade(candidate, result.objective):
                _print(console, f"{candidate.name} islands: {traded}")
        if candidate.reason and not wide:
            _print(console, f"{candidate.name} {candidate.status}:", _STYLES[candidate.status])
            console.print(Padding(Text(printable(candidate.reason), overflow="fold"), (0, 0, 0, 2)))
    console.print()
    _print_publications(result, console)
    _print(console, f"report: {Path(result.folder) / 'report.html'}")


def _print_publications(result: RunResult, console: Console) -> None:
    for publication in result.publications:
        _print(console, wording.publication(publication), "bold" if publication.new else "")
    if servers := wording.servers(result):
        _print(console, servers)
    if not result.publications:
        _print(console, wording.verdict(result), "bold")


def print_inspection(found: Inspection, console: Console) -> None:
    """Contract, operations, and what keeps which signature off which backend."""
    for name, signature in found.contract.signatures.items():
        table = Table(title=Text(printable(f"{name}  ({signature.method_name})")), title_justify="left")
        for heading in ("", "name", "dtype and shape"):
            table.add_column(heading)
        for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, tensor in tensors.items():
                default = f", default {tensor.default}" if tensor.default is not None else ""
                table.add_row(side, Text(printable(key)), Text(printable(f"{tensor}{default}")))
        console.print(table)
        _print_operations(found, name, console)
    contract = found.contract
    assets, extra = (", ".join(names) or "none" for names in (contract.assets, contract.extra_assets))
    _print(console, f"tags {', '.join(contract.tags)}; {contract.tables} tables; assets {assets}; "
                    f"assets.extra {extra}; {contract.variable_bytes / 2**20:.1f} MB of variables")


def _print_operations(found: Inspection, signature: str, console: Console) -> None:
    known = found.signatures[signature]
    _print(console, f"{sum(known.operations.values())} operations: "
                    + ", ".join(f"{op} x{count}" for op, count in list(known.operations.items())[:10]))
    for backend, blockers in known.blockers.items():
        if backend not in found.coverage:
            _print(console, f"  {backend}: {'; '.join(map(str, blockers)) or 'nothing known to keep it off'}")
    for backend, by_signature in found.coverage.items():
        covered = by_signature[signature]
        if isinstance(covered, str):
            _print(console, f"  {backend}: {covered}")
            continue
        _print(console, f"  {backend}: would take {covered}" + ("; it would leave" if covered.left_out else ""))
        for left in covered.left_out:
            _print(console, f"    {left}")


def print_timings(results: dict[str, BenchmarkResult], console: Console) -> None:
    """Latencies of candidates, by name, beside the original's."""
    table = Table("candidate", "signature", "batch", "p50 ms", "original", "p50 ratio [95 %]", "throughput ratio")
    for name, result in results.items():
        for b in result.batches:
            cells = (name, b.signature, str(b.batch_size), f"{b.candidate.p50:.2f}", f"{b.original.p50:.2f}",
                     str(b.ratios["latency_p50"]), str(b.ratios["throughput"]))
            table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)


def print_finished(result: CandidateResult, folder: Path, console: Console) -> None:
    """What was built, whether it passed, and what it takes."""
    if result.artifact:
        _print(console, f"built with {', '.join(f'{key} {value}' for key, value in result.artifact.built.items())}")
        for note in result.artifact.notes:
            _print(console, note)
    _print(console, f"{folder}: {result.status}, parity error {wording.parity(result)}", _STYLES[result.status])
    if result.benchmark:
        timed = result.benchmark
        candidate, original = ([numbers.seconds(value) for value in pair] for pair in (
            (timed.load_s, timed.first_request_s), (timed.original_load_s, timed.original_first_request_s)))
        _print(console, f"cold start {candidate[0]}, first request {candidate[1]} "
                        f"(original: {original[0]}, {original[1]})")
        print_timings({result.name: timed}, console)


class Bars:
    """Shows how a run goes, on stderr: a bar for each stage at work, one line for each judged candidate.

    Bars only appear where stderr is a terminal, and in notebooks; the lines always do. Threads may share it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
                   TimeElapsedColumn())
        # What a program prints meanwhile goes above the bars, unless it goes elsewhere.
        self._bars = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal,
                              redirect_stdout=sys.stdout is not None and sys.stdout.isatty())
        self._cell = LiveCell(self._bars) if self.console.is_jupyter else None
        self._lanes: dict[str, TaskID] = {}
        self._lock = Lock()

    def __enter__(self) -> Bars:
        self._bars.start()
        if self._cell:
            self._cell.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._cell:
            self._cell.stop()
        self._bars.stop()

    def stage(self, name: str, *, lane: str = "") -> None:
        """Make the bar of ``lane`` that of stage ``name``, whose length is not known yet; none where that is empty."""
        with self._lock:
            if not name:
                self._end(lane)
            elif lane not in self._lanes:
                self._lanes[lane] = self._bars.add_task(printable(name), total=None)
            else:
                # Rather than a new bar, which would go below those of the other lanes.
                bar = self._lanes[lane]
                next(task for task in self._bars.tasks if task.id == bar).total = None
                self._bars.reset(bar, description=printable(name))

    def progress(self, done: int, total: int, *, lane: str = "") -> None:
        """Move the bar of ``lane``."""
        with self._lock:
            if lane in self._lanes:
                self._bars.update(self._lanes[lane], completed=done, total=total or None)

    def candidate(self, result: CandidateResult) -> None:
        """Print what became of a candidate; its bar goes."""
        with self._lock:
            self._end(result.name)
            self._end("")
        words = [f"{result.label}: {result.status}"]
        if result.benchmark and result.name != select.ORIGINAL:
            first = result.benchmark.batches[0].batch_size
            words.append(f"p50 {result.benchmark.ratio('latency_p50', first)} at batch size {first}")
        if result.verdict and result.name != select.ORIGINAL:
            words.append(f"parity error {wording.parity(result)}")
        if result.reason:
            words.append(result.reason)
        _print(self.console, ", ".join(words), _STYLES[result.status] if result.status != "ok" else "")

    def _end(self, lane: str) -> None:
        if lane in self._lanes:
            self._bars.remove_task(self._lanes.pop(lane))


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
            Text(printable(candidate.label)), Text(candidate.status, style=_STYLES[candidate.status]),
            Text(numbers.milliseconds(timing.candidate.p50 if timing else None)),
            Text(numbers.ratio(select.ratio(candidate, result.objective))),
            Text(numbers.times(throughput.value) if throughput else numbers.NONE),
            Text(wording.parity(candidate).replace("not comparable", "n/a")),
            Text(numbers.size(candidate.size_bytes))]
        table.add_row(*cells, *([Text(printable(candidate.reason))] if wide else []))
    return table


def _print(console: Console, line: str, style: str = "") -> None:
    """One line of text as it is: no markup, no highlighting, wrapped by the terminal and nowhere else."""
    console.print(Text(printable(line), style=style), soft_wrap=True)


def printable(text: str) -> str:
    """``text`` on one line, without the control characters with which it could command a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
