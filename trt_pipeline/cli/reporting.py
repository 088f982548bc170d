"""`report` and `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from trt_pipeline import doctor, tracking
from trt_pipeline.cli import printing
from trt_pipeline.cli.app import app
from trt_pipeline.cli.options import Json, MlflowServer
from trt_pipeline.errors import InputError
from trt_pipeline.report import write_html
from trt_pipeline.run_result import RunResult


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
           mlflow: MlflowServer = None) -> None:
    """(Re)write report.html of a run, and log the run where that is asked for."""
    source = run_folder / "report.json"
    try:
        result = RunResult.model_validate_json(source.read_text())
    except OSError:
        raise InputError(f"{run_folder} is no finished run: it has no report.json") from None
    except ValidationError:
        raise InputError(f"{source} was written by another version: run optimize again") from None
    write_html(result, run_folder / "report.html")
    print(f"{run_folder / 'report.html'} written")
    if mlflow is not None:
        logged = tracking.log(result, uri=mlflow, folder=run_folder)
        print(f"{'logged to' if logged.new else 'already in'} MLflow: {logged.page}")


@app.command("doctor")
def examine(
    python: Annotated[Path | None, typer.Option(help="Look at the packages of this interpreter instead.")] = None,
    as_json: Json = False,
) -> None:
    """What this machine can do, what is missing and how to get it."""
    findings = doctor.examine(python)
    if as_json:
        print(json.dumps([f.model_dump() for f in findings]))
        return
    table = Table("", "what", "found", "to get it")
    for finding in findings:
        table.add_row("ok" if finding.ok else "--", finding.what, escape(finding.found),
                      "" if finding.ok else escape(finding.cure))
    printing.out.print(table)
