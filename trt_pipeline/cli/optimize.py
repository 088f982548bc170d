"""`optimize` and `sweep`: whole runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from trt_pipeline import api, tracking
from trt_pipeline.ci import gate as gates
from trt_pipeline.ci.conclude import conclude
from trt_pipeline.ci.gate import Checks
from trt_pipeline.cli import printing
from trt_pipeline.cli.app import app
from trt_pipeline.cli.options import (
    Address,
    Backends,
    BaselineFile,
    Cpus,
    ExecutorName,
    Fresh,
    Gates,
    Json,
    JunitFile,
    MlflowServer,
    Output,
    Precisions,
    Strict,
    SummaryFile,
    WriteBaseline,
    executor_of,
)
from trt_pipeline.errors import GateError, PipelineError
from trt_pipeline.frozen import Frozen
from trt_pipeline.report import terminal
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages.run import ARTIFACTS

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names in configs/, or YAML files.")]


@app.command()
def optimize(
    names: Names, *,
    backend: Backends = [], precision: Precisions = [],  # noqa: B006  (Typer reads the default only)
    output: Output = ARTIFACTS, fresh: Fresh = False,
    serving: Annotated[Path | None, typer.Option(help="Publish below this folder instead of the config's.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep only so many published versions.")] = None,
    republish: Annotated[bool, typer.Option(help="Publish even what is the newest version already.")] = False,
    executor: ExecutorName = "local", address: Address = None, cpus: Cpus = None,
    gate: Gates = [], strict: Strict = False, baseline: BaselineFile = None,  # noqa: B006
    write_baseline: WriteBaseline = False, junit: JunitFile = None, summary: SummaryFile = None,
    mlflow: MlflowServer = None, as_json: Json = False,
) -> None:
    """Judge every candidate and publish the fastest that passes, for each target; of several models one by one."""
    overrides = {key: value for key, value in (("serving", serving), ("keep", keep)) if value is not None}
    asked = gates.checks(gate, strict=strict, baseline_file=baseline, write_baseline=write_baseline, junit=junit,
                         summary=summary)
    judges = executor_of(executor, address, cpus)
    if mlflow is not None:
        tracking.check(mlflow)

    def one(name: str) -> RunResult:
        config = api._config(name).model_copy(update=overrides)
        with terminal.Bars(printing.err) as bars:
            return api.optimize(config, backends=backend, precisions=precision, output=output, fresh=fresh,
                                again=republish, executor=judges, checks=asked, observer=bars)

    results, failures = _runs(names, one, as_json)
    _finish(results, failures, mlflow, asked)
    unserved = [found for result in results for found in result.publications if found.candidate is None]
    if unserved:
        raise GateError(f"nothing could be published for {unserved[0].target}: {unserved[0].why}")


@app.command()
def sweep(
    names: Annotated[list[str], typer.Argument(
        metavar="NAME...", help="Names in configs/, YAML files, or a SavedModel with --samples.")], *,
    backend: Backends = [], precision: Precisions = [],  # noqa: B006
    output: Output = ARTIFACTS, fresh: Fresh = False,
    samples: Annotated[str | None, typer.Option(help="Validation samples of a bare SavedModel.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Calibration samples of a bare SavedModel.")] = None,
    batch_size: Annotated[list[int], typer.Option(help="To time at, besides the objective's; repeatable.")] = [],  # noqa: B006
    early_stopping: Annotated[bool, typer.Option(
        "--early-stopping/--to-the-end", help="Time a candidate no further once it is surely beaten.")] = True,
    executor: ExecutorName = "local", address: Address = None, cpus: Cpus = None,
    gate: Gates = [], strict: Strict = False, baseline: BaselineFile = None,  # noqa: B006
    write_baseline: WriteBaseline = False, junit: JunitFile = None, summary: SummaryFile = None,
    mlflow: MlflowServer = None, as_json: Json = False,
) -> None:
    """Judge every candidate and publish nothing."""
    asked = gates.checks(gate, strict=strict, baseline_file=baseline, write_baseline=write_baseline, junit=junit,
                         summary=summary)
    judges = executor_of(executor, address, cpus)
    if mlflow is not None:
        tracking.check(mlflow)

    def one(name: str) -> RunResult:
        with terminal.Bars(printing.err) as bars:
            return api.sweep(name, backends=backend, precisions=precision, samples=samples, calibration=calibration,
                             batch_sizes=batch_size, early_stopping=early_stopping, output=output, fresh=fresh,
                             executor=judges, checks=asked, observer=bars)

    results, failures = _runs(names, one, as_json)
    for result in results if not as_json else ():
        printing.out.print(result.table())
    _finish(results, failures, mlflow, asked)


def _runs(models: Sequence[str], one: Callable[[str], RunResult],
          as_json: bool) -> tuple[list[RunResult], list[PipelineError]]:
    """The runs of all ``models``, shown; what is wrong with one of several keeps the others from nothing."""
    results: list[RunResult] = []
    failures: list[PipelineError] = []
    for model in models:
        try:
            results.append(one(model))
        except PipelineError as error:
            failures.append(error)
            if len(models) > 1:
                printing.err.print(str(error), markup=False, highlight=False, soft_wrap=True)
            continue
        if not as_json:
            printing.show_run(results[-1])
    if as_json and results:
        printing.print_json(results[0] if len(models) == 1 else _Runs(runs=tuple(results)))
    return results, failures


def _finish(results: Sequence[RunResult], failures: list[PipelineError], mlflow: str | None, asked: Checks) -> None:
    """Log and conclude runs that are over, and written whatever becomes of this; then tell the first failure."""
    try:
        for result in results if mlflow is not None else ():
            logged = tracking.log(result, uri=mlflow)
            print(f"{'logged to' if logged.new else 'already in'} MLflow: {logged.page}", file=sys.stderr)
    except PipelineError as error:
        failures.append(error)
    conclude(asked, results)
    if failures:
        raise failures[0]


class _Runs(Frozen):
    """Several runs as one document."""

    runs: tuple[RunResult, ...]
