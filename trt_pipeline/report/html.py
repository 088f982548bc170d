"""One HTML file with everything that a run found; it needs no network and no other file."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

import jinja2

from trt_pipeline.publish import select
from trt_pipeline.report import numbers, wording
from trt_pipeline.report.plot import Mark, scatter
from trt_pipeline.run_result import RunResult

_FILTERS = {"ms": numbers.milliseconds, "seconds": numbers.seconds, "size": numbers.size, "mb": numbers.megabytes,
            "rate": numbers.rate, "error": numbers.error, "share": numbers.share, "cosine": numbers.cosine,
            "db": numbers.decibels, "times": numbers.times, "described": wording.described, "parity": wording.parity,
            "libraries": wording.libraries, "islands": wording.islands, "trade": wording.trade}


def write_html(result: RunResult, path: Path) -> None:
    """Write the report of ``result`` to ``path``; readers find the old file or the whole new one."""
    text = _template().render(**_content(result))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", errors="replace")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("trt_pipeline", "report"), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(_FILTERS)
    return environment.get_template("report.html.j2")


def _content(result: RunResult) -> dict[str, Any]:
    marks = _marks(result)
    latency = f"p50 latency at batch size {result.objective.partition('@')[2]}"
    shown = {mark.name for mark in marks}
    return {
        "run": result,
        "verdict": wording.verdict(result),
        "objective": wording.objective(result.objective),
        "original": select.ORIGINAL,
        "published": {p.candidate for p in result.publications if p.candidate},
        "marks": marks,
        "plot": scatter(marks, latency) if marks else None,
        "unplotted": [c.name for c in result.candidates if c.name not in shown],
        "latency": latency,
        "interpreters": {c.backend: c.interpreter for c in result.candidates if c.interpreter},
        "several_signatures": len(result.contract.signatures) > 1,
        "config": json.dumps(result.config, indent=2, default=str, ensure_ascii=False),
        "command": wording.command(result),
        "servers": wording.servers(result),
    }


def _marks(result: RunResult) -> list[Mark]:
    """A mark for each candidate that was both timed and compared, in the table's order.

    Each candidate ran next to the original, but not next to the others: its ratio is free of the
    machine's drift, its milliseconds are not. So a mark stands at the original's typical latency
    over the candidate's ratio, where its latency would have been had all run at once.
    """
    comparable = [c for c in result.candidates if select.parity_error(c) is not None]
    front = {candidate.name for candidate in select.pareto_front(comparable, result.objective)}
    timings = {c.name: timing for c in result.candidates if (timing := wording.at_objective(c, result.objective))}
    originals: dict[str, list[float]] = {}
    for timing in timings.values():
        originals.setdefault(timing.signature, []).append(timing.original.p50)
    found = []
    for candidate in comparable:
        known, error = timings.get(candidate.name), select.parity_error(candidate)
        if known is not None and error is not None:
            original = candidate.name == select.ORIGINAL
            latency = statistics.median(originals[known.signature])
            found.append(Mark(name=candidate.name, error=error, passed=candidate.status != "rejected",
                              latency_ms=latency if original else latency / known.ratios["latency_p50"].value,
                              original=original, on_front=candidate.name in front))
    return found
