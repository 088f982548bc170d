"""`validate` and `benchmark`: a candidate beside the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trt_pipeline import api
from trt_pipeline.cli import printing
from trt_pipeline.cli.app import app
from trt_pipeline.cli.options import Json, Padding, SamplesOption, Signatures, Tolerances, gate_of, padding_of
from trt_pipeline.errors import ConfigError, GateError
from trt_pipeline.report import junit, terminal, wording


@app.command()
def validate(
    reference: Path, candidate: Path, samples: SamplesOption,
    tolerance: Tolerances = [],  # noqa: B006
    precision: Annotated[str | None, typer.Option(help="Whose default tolerances apply.")] = None,
    signature: Signatures = [], pad: Padding = [],  # noqa: B006
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    as_json: Json = False,
) -> None:
    """Judge a candidate against the original; exit status 1 when it is rejected."""
    verdict = api.validate(reference, candidate, samples, gate=gate_of(tolerance), signatures=signature,
                           padding=padding_of(pad), precision=precision)
    if junit_file:
        junit.write(verdict, junit_file)
    if as_json:
        printing.print_json(verdict)
    else:
        printing.print_verdict(verdict)
        if verdict.estimate:
            print(f"{wording.estimated(verdict)}; {verdict.estimate.pending}")
    if not verdict.passed:
        raise GateError(f"rejected: {verdict.reason}")


@app.command()
def benchmark(
    candidates: Annotated[list[Path], typer.Argument(help="The original, then the candidates.")],
    samples: SamplesOption,
    batch_size: Annotated[list[int], typer.Option(help="Repeatable.")] = [1, 8],  # noqa: B006
    duration: Annotated[float, typer.Option(help="Seconds per batch size and candidate.")] = 4.0,
    signature: Signatures = [], pad: Padding = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Time candidates against the original, interleaved on the same inputs."""
    if len(candidates) < 2:
        raise ConfigError("benchmark takes the original and at least one candidate")
    results = {}
    for path in candidates[1:]:
        results[str(path)] = api.benchmark(candidates[0], path, samples, batch_sizes=batch_size, duration_s=duration,
                                           signatures=signature, padding=padding_of(pad))
    if as_json:
        print(json.dumps({name: r.model_dump(mode="json") for name, r in results.items()}))
        return
    terminal.print_timings(results, printing.out)
