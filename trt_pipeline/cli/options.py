"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from trt_pipeline.cluster import Cluster
from trt_pipeline.errors import ConfigError
from trt_pipeline.parity.tolerance import Gate, OutputGate
from trt_pipeline.samples.profiles import Extent

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Backends = Annotated[list[str], typer.Option("--backend", help="Only this backend's candidates; repeatable.")]
Precisions = Annotated[list[str], typer.Option("--precision", help="Only this precision's candidates; repeatable.")]
Output = Annotated[Path, typer.Option("--output", help="Folder of run folders and kept stage results.")]
Fresh = Annotated[bool, typer.Option("--fresh/--resume", help="Repeat every stage, or use the results kept.")]
Signatures = Annotated[list[str], typer.Option("--signature", help="Only this signature; repeatable.")]
Padding = Annotated[list[str], typer.Option("--pad", help="INPUT=VALUE that fills samples to a width; repeatable.")]
Python = Annotated[Path | None, typer.Option(help="Interpreter to convert and run it with.")]
Tolerances = Annotated[list[str], typer.Option(
    "--tolerance", help="OUTPUT={close: {rtol: 1e-3}}, in the words of the config's gate; repeatable.")]
Version = Annotated[int | None, typer.Option(min=0, help="The newest by default.")]
Label = Annotated[str | None, typer.Option(help="Of a version, instead of its number.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that a request may take.")]
SamplesOption = Annotated[str, typer.Option("--samples", help="npz, npy, tfrecord, folder or module:function.")]


Gates = Annotated[list[str], typer.Option("--gate", metavar="EXPR|FILE", help=(
    "'parity <= 0.01', 'tensorflow/int8: speedup_latency_p50@1 >= 1.1', 'tensorflow/fp32: ok', or a YAML or JSON file "
    "of such; repeatable."))]
Strict = Annotated[bool, typer.Option("--strict", help="A bound on what only a GPU can measure is missed here.")]
BaselineFile = Annotated[Path | None, typer.Option("--baseline", help="Earlier runs; none may be fallen behind.")]
WriteBaseline = Annotated[bool, typer.Option("--write-baseline", help="Add this run to the baseline, if it passes.")]
JunitFile = Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")]
SummaryFile = Annotated[Path | None, typer.Option("--summary", help="Also append Markdown to this file.")]


ExecutorName = Annotated[str, typer.Option("--executor", help="local, or ray: candidates on a Ray cluster.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster: HOST:PORT or auto; one is started by default.")]
Cpus = Annotated[int | None, typer.Option(min=1, help="Cores for each candidate there; by default a machine's.")]
MlflowServer = Annotated[str | None, typer.Option("--mlflow", metavar="URI|env", help=(
    "Log the run to this MLflow, or to that of MLFLOW_TRACKING_URI."))]


def executor_of(name: str, address: str | None, cpus: int | None) -> str | Cluster:
    """Where candidates are judged, as `api` takes it. Raises ConfigError where the options are of another place."""
    if name == "ray":
        return Cluster(address=address, cpus=cpus)
    if address or cpus:
        raise ConfigError("--address and --cpus are of a cluster: add --executor ray")
    return name


def gate_of(tolerances: list[str]) -> Gate:
    """The gate of these ``--tolerance``. Raises ConfigError where one cannot be read."""
    outputs = {}
    for text in tolerances:
        name, equals, bound = text.partition("=")
        try:
            outputs[name] = OutputGate.model_validate(yaml.safe_load(bound)) if equals else None
        except (yaml.YAMLError, ValidationError):
            outputs[name] = None
        if outputs[name] is None:
            raise ConfigError(f"--tolerance '{text}': write OUTPUT={{close: {{rtol: 1e-3}}}}, OUTPUT={{exact: true}} "
                              "or another bound of the config's gate")
    return Gate.model_validate({"outputs": outputs})


def profile_of(text: str) -> dict[str, Extent]:
    """The profile of one ``--profile``. Raises ConfigError where it cannot be read."""
    name, _, extent = text.partition("=")
    try:
        return {name: Extent.model_validate(yaml.safe_load(extent))}
    except (yaml.YAMLError, ValidationError):
        raise ConfigError(f"--profile '{text}': write INPUT={{min: [...], opt: [...], max: [...]}} with "
                          "1 <= min <= opt <= max in each dimension") from None


def options_of(given: list[str]) -> dict[str, Any]:
    """The backend options of these ``--option``. Raises ConfigError where one cannot be read."""
    try:
        return {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in given)}
    except yaml.YAMLError:
        raise ConfigError(f"--option '{given[0]}': write NAME=VALUE") from None


def padding_of(given: list[str]) -> dict[str, int]:
    """Input -> filling value of these ``--pad``. Raises ConfigError where one cannot be read."""
    try:
        return {name: int(value) for name, _, value in (text.partition("=") for text in given)}
    except ValueError:
        raise ConfigError(f"--pad '{given[0]}': write INPUT=VALUE with a whole number") from None


def examples_of(text: str) -> list[dict[str, Any]]:
    """The tf.Examples of ``--examples``: feature -> values each. Raises ConfigError where they cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise ConfigError(f"--examples '{text[:60]}': write JSON such as [{{\"FEATURE\": [1.5, 2]}}]")
    return found
