"""`optimize` and `sweep`: whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_pipeline import api
from trt_pipeline.cli import printing
from trt_pipeline.cli.app import app
from trt_pipeline.cli.options import Backends, Fresh, Json, Output, Precisions
from trt_pipeline.errors import GateError
from trt_pipeline.report import terminal
from trt_pipeline.stages.run import ARTIFACTS


@app.command()
def optimize(
    config: Annotated[str, typer.Argument(help="A name in configs/, or a YAML file.")],
    backend: Backends = [], precision: Precisions = [],  # noqa: B006  (Typer reads the default only)
    output: Output = ARTIFACTS, fresh: Fresh = False,
    serving: Annotated[Path | None, typer.Option(help="Publish below this folder instead of the config's.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep only so many published versions.")] = None,
    republish: Annotated[bool, typer.Option(help="Publish even what is the newest version already.")] = False,
    as_json: Json = False,
) -> None:
    """Judge every candidate and publish the fastest that passes, for each target."""
    overrides = {key: value for key, value in (("serving", serving), ("keep", keep)) if value is not None}
    resolved = api._config(config).model_copy(update=overrides)
    with terminal.Bars(printing.err) as bars:
        result = api.optimize(resolved, backends=backend, precisions=precision, output=output, fresh=fresh,
                              again=republish, observer=bars)
    printing.show_run(result, as_json)
    unserved = [p for p in result.publications if p.candidate is None]
    if unserved:
        raise GateError(f"nothing could be published for {unserved[0].target}: {unserved[0].why}")


@app.command()
def sweep(
    config: Annotated[str, typer.Argument(help="A name in configs/, a YAML file, or a SavedModel with --samples.")],
    backend: Backends = [], precision: Precisions = [],  # noqa: B006
    output: Output = ARTIFACTS, fresh: Fresh = False,
    samples: Annotated[str | None, typer.Option(help="Validation samples of a bare SavedModel.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Calibration samples of a bare SavedModel.")] = None,
    as_json: Json = False,
) -> None:
    """Judge every candidate and publish nothing."""
    with terminal.Bars(printing.err) as bars:
        result = api.sweep(config, backends=backend, precisions=precision, samples=samples, calibration=calibration,
                           output=output, fresh=fresh, observer=bars)
    printing.show_run(result, as_json)
    if not as_json:
        print("Pareto front (speed, parity): " + ", ".join(c.name for c in result.pareto()))
