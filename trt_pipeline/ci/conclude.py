"""The end of a run in continuous integration: its files, its baseline, its exit status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trt_pipeline.ci import baseline, junit, summary
from trt_pipeline.ci.gate import Checks
from trt_pipeline.errors import GateError, OutputError
from trt_pipeline.run_result import RunResult


def conclude(asked: Checks, results: Sequence[RunResult]) -> None:
    """Write what was asked for of ``results``, then raise where a gate was missed.

    Raises:
        GateError: a gate was missed; one line names the first of what was.
        OutputError: a file cannot be written.
    """
    if asked.junit:
        _write(asked.junit, junit.text(results))
    if asked.summary:
        _write(asked.summary, summary.text(results), append=True)
    if asked.baseline and asked.write_baseline:
        for result in results:
            if result.gate and result.gate.passed:
                held = baseline.read(asked.baseline, absent_ok=True)
                baseline.write(asked.baseline, held.with_run(baseline.run_of(result), result.name))
    for result in results:
        if result.gate and not result.gate.passed:
            raise GateError(f"{result.name} missed the gate: {result.gate.reason}")


def _write(path: Path, text: str, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another file") from None
