"""`inspect`, `init`, `calibrate`, `convert`, `finalize`: one model, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer
from pydantic import TypeAdapter

from trt_pipeline import api
from trt_pipeline.calibration.ranges import Method
from trt_pipeline.ci import gate as gates
from trt_pipeline.ci.conclude import conclude
from trt_pipeline.cli import printing
from trt_pipeline.cli.app import app
from trt_pipeline.cli.options import (
    BaselineFile,
    Gates,
    Json,
    JunitFile,
    Padding,
    Python,
    SamplesOption,
    Signatures,
    Strict,
    SummaryFile,
    Tolerances,
    WriteBaseline,
    gate_of,
    options_of,
    padding_of,
    profile_of,
)
from trt_pipeline.config import template
from trt_pipeline.config.loader import CONFIG_FOLDER
from trt_pipeline.config.schema import Name
from trt_pipeline.errors import ConfigError, GateError, OutputError
from trt_pipeline.finalizing import whole_run
from trt_pipeline.report import terminal
from trt_pipeline.suggest import did_you_mean


@app.command()
def inspect(model: Path, tags: Annotated[str, typer.Option(help="Comma-separated tags.")] = "serve",
            coverage: Annotated[bool, typer.Option(
                help="Also try what TensorRT would take of each signature.")] = True,
            python: Python = None, as_json: Json = False) -> None:
    """Contract, operation counts, what keeps which signature off which backend, and what TensorRT would take."""
    found = api.inspect(model, tags.split(","), coverage=coverage, python=python)
    if as_json:
        printing.print_json(found)
        return
    terminal.print_inspection(found, printing.out)


@app.command()
def init(model: Path, name: Annotated[str, typer.Option(help="Name of the configuration.")]) -> None:
    """Write configs/NAME.yaml from what inspect sees."""
    target = CONFIG_FOLDER / f"{TypeAdapter(Name).validate_python(name)}.yaml"
    if target.exists():
        raise OutputError(f"{target} exists already: name another, or edit it")
    text = template.text(name, model, api.inspect(model))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}") from None
    print(f"{target} written: give it samples, then run 'trt-pipeline optimize {name}'")


@app.command()
def calibrate(
    model: Path, samples: SamplesOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="The ranges file to write.")],
    method: Annotated[str, typer.Option(help="minmax, percentile, entropy or mse.")] = "minmax",
    percentile: Annotated[float, typer.Option(min=50.0, max=100.0, help="Of the method percentile.")] = 99.99,
    most: Annotated[int | None, typer.Option(min=1, help="Use only so many of the samples.")] = None,
    signature: Signatures = [], pad: Padding = [],  # noqa: B006
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Begin anew, or go on where one stopped.")] = False,
) -> None:
    """Measure the ranges of a model's tensors on samples, for every backend's int8."""
    chosen = TypeAdapter(Method).validate_python(method) if method in get_args(Method) else None
    if chosen is None:
        raise ConfigError(f"no method '{method}': there are {', '.join(get_args(Method))}"
                          f"{did_you_mean(method, get_args(Method))}")
    with terminal.Bars(printing.err) as bars:
        bars.stage(f"calibrate {model}")
        found = api.calibrate(model, samples, output, method=chosen, percentile=percentile, most=most,
                              signatures=signature, padding=padding_of(pad), fresh=fresh, progress=bars.progress)
    for name, tables in found.signatures.items():
        print(f"{output}: {name}: {len(tables.ranges)} ranges by {found.method}, {len(tables.extents)} extents, "
              f"{found.count} samples")


@app.command()
def convert(
    model: Path,
    backend: Annotated[str, typer.Option(help="Backend to convert with.")],
    precision: Annotated[str, typer.Option(help="Precision to convert to.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist.")],
    samples: Annotated[str | None, typer.Option(help="Calibration samples, for int8.")] = None,
    ranges: Annotated[Path | None, typer.Option(help="A ranges file to quantize by, instead of samples.")] = None,
    option: Annotated[list[str], typer.Option(
        help="NAME=VALUE, an option of the backend as under 'backends' in a config; repeatable.")] = [],  # noqa: B006
    signature: Signatures = [], pad: Padding = [],  # noqa: B006
    python: Python = None,
) -> None:
    """Convert a SavedModel with one backend; it is not judged."""
    made = api.convert(model, backend, precision, output, calibration=samples, signatures=signature,
                       padding=padding_of(pad), ranges=ranges, options=options_of(option), python=python)
    print(f"{output}: {made.artifact.kind}, {', '.join(dict.fromkeys(made.artifact.files.values()))}")
    for note in made.artifact.notes:
        print(note)


@app.command()
def finalize(
    candidate: Annotated[Path, typer.Argument(help="A folder that convert wrote, or of a run's candidate; or a run, of "
                                              "which all that wait are finalized.")], *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist.")],
    reference: Annotated[Path | None, typer.Option(help="The original; timed against, where it is here.")] = None,
    samples: Annotated[str | None, typer.Option(help="Samples, where the candidate brings none.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Samples for TensorRT's own int8 calibrator.")] = None,
    tolerance: Tolerances = [], signature: Signatures = [], pad: Padding = [],  # noqa: B006
    profile: Annotated[list[str], typer.Option(
        help="INPUT={min: [1, 4], opt: [8, 16], max: [32, 64]} that engines must serve; repeatable.")] = [],  # noqa: B006
    python: Python = None, gate: Gates = [], strict: Strict = False, baseline: BaselineFile = None,  # noqa: B006
    write_baseline: WriteBaseline = False, junit: JunitFile = None, summary: SummaryFile = None,
    as_json: Json = False,
) -> None:
    """On the target GPU: build the engines of a candidate converted elsewhere, judge and time it for real."""
    asked = gates.checks(gate, strict=strict, baseline_file=baseline, write_baseline=write_baseline, junit=junit,
                         summary=summary)
    if whole_run.find(candidate) is None and asked != gates.Checks():
        raise ConfigError(f"--gate, --baseline, --junit and --summary are of whole runs: name the run of {candidate}")
    if whole_run.find(candidate):
        with terminal.Bars(printing.err) as bars:
            run = api.finalize_run(candidate, output, reference=reference, python=python, checks=asked, observer=bars)
        if as_json:
            printing.print_json(run)
        else:
            printing.show_run(run)
        conclude(asked, [run])
        return
    with terminal.Bars(printing.err) as bars:
        bars.stage(f"finalize {candidate}")
        result = api.finalize(candidate, output, reference=reference, samples=samples, calibration=calibration,
                              gate=gate_of(tolerance) if tolerance else None, signatures=signature,
                              padding=padding_of(pad), profiles=[profile_of(text) for text in profile], python=python,
                              progress=bars.progress)
    if as_json:
        printing.print_json(result)
    else:
        terminal.print_finished(result, output, printing.out)
    if result.status != "ok":
        raise GateError(f"{output} was built and is rejected: {result.reason}")
