"""A run as Markdown, for the page of a CI job: verdict, candidates, gate, regressions, what is left for a GPU."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from trt_pipeline.ci.outcome import GateReport
from trt_pipeline.publish import select
from trt_pipeline.report import numbers, wording
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages.run_folder import finalize_command, folder_name

_MARKS = {"met": "✅ met", "missed": "❌ missed", "pending": "⏳ pending"}
# A reason may name every operation of a model; the whole of it is in the report.
_LONGEST_REASON = 300
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]|#~"} | {"<": "&lt;", ">": "&gt;",
                                                                                         "&": "&amp;"})


def text(results: Sequence[RunResult]) -> str:
    """Of each run a section."""
    return "".join(f"{line}\n" for result in results for line in _section(result))


def _section(result: RunResult) -> Iterator[str]:
    yield f"## {_plain(result.name)}: {_headline(result.gate)}"
    yield ""
    yield _plain(wording.verdict(result))
    yield ""
    yield from _candidates(result)
    if result.gate:
        yield from _gate(result.gate)
    yield from _pending(result)
    machine = ", ".join(result.environment[key] for key in ("cpu", "gpu") if result.environment.get(key))
    yield f"Run {_code(result.run_id)} on {_plain(machine)}, {numbers.seconds(result.seconds)}."
    yield ""


def _headline(found: GateReport | None) -> str:
    if found is None:
        return "done"
    waiting = sum(one.standing == "pending" for one in found.outcomes)
    if not found.passed:
        return "❌ the gate was missed"
    return "✅ the gate is passed" + (f", {waiting} pending" if waiting else "")


def _candidates(result: RunResult) -> Iterator[str]:
    metric, _, batch = result.objective.partition("@")
    yield f"| candidate | status | p50@{batch} | {_plain(metric)} ratio [95 %] | parity | size | why |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for one in result.candidates:
        timing = wording.at_objective(one, result.objective)
        cells = (one.label, one.status, numbers.milliseconds(timing.candidate.p50 if timing else None),
                 numbers.ratio(select.ratio(one, result.objective)), wording.parity(one), numbers.size(one.size_bytes),
                 _short(one.reason))
        yield f"| {' | '.join(_plain(cell) for cell in cells)} |"
    yield ""


def _gate(found: GateReport) -> Iterator[str]:
    if found.outcomes:
        yield "| gate | of | | found |"
        yield "| --- | --- | --- | --- |"
        for one in found.outcomes:
            who = ", ".join((one.candidate or "nothing", *one.targets))
            cells = (one.requirement, who, _MARKS[one.standing], _short(one.detail))
            yield f"| {' | '.join(_plain(cell) for cell in cells)} |"
        yield ""
    if found.compared:
        runs = f"{found.compared} earlier run{'s' if found.compared > 1 else ''}"
        yield (f"Compared with {runs}: nothing got worse." if not found.regressions else
               f"**Worse than in {runs}:**")
        yield ""
    for worse in found.regressions:
        yield f"- {_plain(str(worse))}"
    for note in found.notes:
        yield f"- {_plain(note)}"
    if found.regressions or found.notes:
        yield ""


def _pending(result: RunResult) -> Iterator[str]:
    waiting = [one for one in result.candidates if one.status == "pending-gpu"]
    if not waiting:
        return
    names = ", ".join(one.name for one in waiting)
    yield f"{len(waiting)} candidates wait for a GPU ({_plain(names)}). On a machine that has one:"
    yield ""
    yield f"    trt-pipeline finalize {shlex.quote(result.folder)} -o finalized/{result.name}"
    yield ""
    one = waiting[0].name
    yield f"or one of them: {_code(finalize_command(result.folder, one, f'finalized/{folder_name(one)}'))}"
    yield ""


def _short(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."


def _plain(told: str) -> str:
    """``told`` on one line, with nothing in it that Markdown or HTML would take for its own."""
    return " ".join("".join(c if c.isprintable() else " " for c in told).split()).translate(_SPECIAL)


def _code(told: str) -> str:
    return f"`{told.replace('`', ' ')}`"
