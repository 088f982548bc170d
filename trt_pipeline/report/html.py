"""One HTML file with everything that a run found; it needs no network and no other file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from trt_pipeline import figures, files
from trt_pipeline.publish import select
from trt_pipeline.report import differences, distributions, histograms, numbers, wording
from trt_pipeline.report.plot import Mark, scatter
from trt_pipeline.run_result import RunResult

_FILTERS = {"ms": numbers.milliseconds, "seconds": numbers.seconds, "size": numbers.size, "mb": numbers.megabytes,
            "rate": numbers.rate, "error": numbers.error, "share": numbers.share, "cosine": numbers.cosine,
            "db": numbers.decibels, "times": numbers.times, "interval": numbers.interval,
            "described": wording.described, "parity": wording.parity,
            "libraries": wording.libraries, "islands": wording.islands, "trade": wording.trade,
            "excess": wording.excess, "clipped": histograms.clipped, "shown": differences.shown,
            "difference": differences.of, "numbered": differences.values,
            "breakable": lambda name: escape(name).replace("/", Markup("/<wbr>"))}


def write_html(result: RunResult, path: Path) -> None:
    """Write the report of ``result`` to ``path``; readers find the old file or the whole new one."""
    text = _template().render(**_content(result))
    files.write_whole(path, text.encode("utf-8", errors="replace"))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("trt_pipeline", "report"), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(_FILTERS)
    return environment.get_template("report.html.j2")


def _content(result: RunResult) -> dict[str, Any]:
    """What the templates refer to: ``sections`` in their order, each with what it shows beside the run itself."""
    several = len(result.contract.signatures) > 1
    content = {
        "run": result,
        "verdict": wording.verdict(result),
        "objective": wording.objective(result.objective),
        "original": select.ORIGINAL,
        "published": {p.candidate for p in result.publications if p.candidate},
        "interpreters": {c.backend: c.interpreter for c in result.candidates if c.interpreter},
        "several_signatures": several,
        "config": json.dumps(result.config, indent=2, default=str, ensure_ascii=False),
        "command": wording.command(result),
        "verifications": [f"trt-pipeline verify {shlex.quote(p.path)}" for p in result.publications if p.path],
        "servers": wording.servers(result),
        **_plot(result), **_timings(result), **_samples(result),
        "covered": [c for c in result.candidates if c.artifact and (c.artifact.coverage or c.artifact.low_precision)],
        "histograms": histograms.drawn(result.calibration.histograms) if result.calibration else (),
        "metric_columns": [(name, 1) for name in dict.fromkeys(name for c in result.candidates for name in c.metrics)],
    }
    there = {"gate": result.gate, "coverage": content["covered"], "islands": any(c.islands for c in result.candidates),
             "calibration": result.calibration, "memory": content["timed"], "metrics": content["metric_columns"]}
    return content | {"sections": [(name, title, f"{name}.html.j2") for name, title in _SECTIONS.items()
                                   if there.get(name, True)]}


# Template -> its title; the first half is what a reader decides by, the second what that rests on.
_SECTIONS = {"publications": "Publications", "gate": "Gate", "candidates": "Candidates", "plot": "Latency and parity",
             "distributions": "Latency distributions", "parity": "Parity", "metrics": "Metrics of your own",
             "coverage": "Coverage and precision", "islands": "Islands", "calibration": "Calibration",
             "memory": "Memory", "noise": "Noise floor", "stages": "Stages", "environment": "Environment",
             "provenance": "Provenance", "reproduce": "Reproduce"}


def _plot(result: RunResult) -> dict[str, Any]:
    marks = _marks(result)
    shown = {mark.name for mark in marks}
    latency = f"p50 latency at batch size {result.objective.partition('@')[2]}"
    return {"marks": marks, "latency": latency, "plot": scatter(marks, latency) if marks else None,
            "unplotted": [c.name for c in result.candidates if c.name not in shown]}


def _timings(result: RunResult) -> dict[str, Any]:
    timed = [c for c in result.candidates if c.benchmark]
    groups = distributions.groups(timed, select.ORIGINAL)
    objective_batch = int(result.objective.partition("@")[2])
    memories = [memory for c in timed if (b := c.benchmark) for memory in
                (b.peak_memory_mb, b.original_peak_memory_mb, b.gpu_memory_mb, b.original_gpu_memory_mb) if memory]
    return {"timed": timed, "distributions": groups, "largest_memory": max(memories, default=0.0),
            "opened": objective_batch if any(g.batch_size == objective_batch for g in groups) else None}


def _samples(result: RunResult) -> dict[str, Any]:
    shown = [c for c in result.candidates if c.verdict and any(output.samples for output in c.verdict.outputs)]
    # The first that a reader asks about.
    first = next((c for c in shown if c.verdict and not c.verdict.passed), None)
    return {"with_samples": shown, "first_shown": first}


def _marks(result: RunResult) -> list[Mark]:
    """A mark for each candidate that was both timed and compared, in the table's order.

    It stands where its latency would have been had all run at once (`figures.compared`).
    """
    latency = f"latency_p50@{result.objective.partition('@')[2]}"
    front = {candidate.name for candidate in select.pareto_front(result.candidates, result.objective)}
    found = []
    for candidate in result.candidates:
        known, error = figures.compared(candidate, latency, result.candidates), select.parity_error(candidate)
        if known is not None and error is not None:
            found.append(Mark(name=candidate.name, error=error, passed=candidate.status != "rejected",
                              latency_ms=known, original=candidate.name == select.ORIGINAL,
                              on_front=candidate.name in front))
    return found
