"""A run as a pandas DataFrame, to sort, plot and write with what its readers know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from trt_pipeline import figures
from trt_pipeline.results import CandidateResult

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped,unused-ignore]

    from trt_pipeline.run_result import RunResult

By = Literal["candidate", "batch"]
# Dtypes of the columns that are no figures; those are Float64.
_DTYPES = {"backend": "string", "precision": "string", "options": "string", "status": "string", "reason": "string",
           "passed": "boolean", "islands": "Int64", "low_share": "Float64", "pending": "string", "stopped": "string",
           "requests": "Int64"}
# Columns that are there whether or not any candidate has the figure.
_ALWAYS = ("parity", "size_mb", "memory_mb", "gpu_memory_mb", "load_s", "first_request_s")


def to_frame(run: RunResult, by: By = "candidate") -> DataFrame:
    """As `RunResult.to_frame`."""
    import pandas

    if by == "batch":
        index = ["name", "signature", "batch_size"]
        rows = [row for candidate in run.candidates for row in _batches(candidate)]
    else:
        index = ["name"]
        names = list(dict.fromkeys((*figures.names(run), *_ALWAYS)))
        rows = [_row(candidate, names) for candidate in run.candidates]
    frame = pandas.DataFrame(rows, columns=list(rows[0]) if rows else index).set_index(index)
    return frame.astype({column: _DTYPES.get(column, "Float64") for column in frame.columns})


def _row(candidate: CandidateResult, names: list[str]) -> dict[str, Any]:
    estimate = candidate.verdict.estimate if candidate.verdict else None
    raised = candidate.islands.islands.raised if candidate.islands else {}
    row: dict[str, Any] = {
        "name": candidate.name, "backend": candidate.backend, "precision": candidate.precision,
        "options": json.dumps(candidate.options, sort_keys=True, default=str) if candidate.options else "",
        "status": candidate.status, "reason": candidate.reason, "passed": candidate.status == "ok",
        "islands": sum(map(len, raised.values())), "low_share": candidate.low_share,
        "pending": estimate.pending if estimate else "",
        "stopped": candidate.benchmark.stopped if candidate.benchmark else ""}
    for name in names:
        row[name] = figures.figure(candidate, name)
        if name.startswith(figures.SPEEDUP):
            ratio = figures.interval(candidate, name)
            row |= {f"{name}_low": ratio.low if ratio else None, f"{name}_high": ratio.high if ratio else None}
    return row


def _batches(candidate: CandidateResult) -> list[dict[str, Any]]:
    rows = []
    for batch in candidate.benchmark.batches if candidate.benchmark else ():
        row: dict[str, Any] = {"name": candidate.name, "signature": batch.signature, "batch_size": batch.batch_size,
                               "status": candidate.status, "requests": batch.candidate.requests}
        for metric in figures.TIMED:
            ratio = batch.ratios[metric]
            row |= {metric: figures.measured(batch.candidate, metric),
                    f"original_{metric}": figures.measured(batch.original, metric),
                    f"{figures.SPEEDUP}{metric}": ratio.value, f"{figures.SPEEDUP}{metric}_low": ratio.low,
                    f"{figures.SPEEDUP}{metric}_high": ratio.high}
        rows.append(row)
    return rows
