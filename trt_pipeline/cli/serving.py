"""`run`, `request`, `verify`, `serve`: models that answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trt_pipeline import api, client, device, expressions
from trt_pipeline.cli import printing
from trt_pipeline.cli.app import app
from trt_pipeline.cli.options import Json, Label, Signatures, Timeout, Version, examples_of
from trt_pipeline.errors import ConfigError, GateError, InputError, PipelineError, one_line
from trt_pipeline.provenance import verify as provenance
from trt_pipeline.report import junit, terminal, wording


@app.command()
def run(
    model: Path, signature: Annotated[str, typer.Option(help="Signature to call.")] = "serving_default",
    input_expr: Annotated[list[str], typer.Option(help="NAME=[[...]]; several with ';' or repeated.")] = [],  # noqa: B006
    tags: Annotated[str, typer.Option(help="Comma-separated tags.")] = "serve",
    where: Annotated[str | None, typer.Option("--device", help="cpu or gpu; by default the GPU where there is one."
                                              )] = None,
    as_json: Json = False,
) -> None:
    """Call a signature with inputs given here, as saved_model_cli run does."""
    from trt_pipeline.backends.saved_model_runner import SavedModelRunner

    device.choose(where, model)
    contract = api.inspect(model, tags.split(",")).contract
    feeds = expressions.parse(input_expr, contract.signature(signature))
    with SavedModelRunner(contract, model) as runner:
        try:
            outputs = runner.infer(signature, feeds)
        except PipelineError:
            raise
        except Exception as error:
            raise InputError(f"{model}: {signature} failed: {one_line(error)}") from None
    printing.print_outputs(outputs, as_json)


@app.command()
def request(
    server: Annotated[str, typer.Argument(metavar="HOST", help="grpc://HOST:PORT or http://HOST:PORT (TensorFlow "
                                          "Serving), triton+grpc:// or triton+http://.")],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As the server calls it.")],
    signature: Annotated[str | None, typer.Option(help="serving_default by default.")] = None,
    version: Version = None, label: Label = None,
    input_expr: Annotated[list[str], typer.Option(help="NAME=[[...]]; several with ';' or repeated.")] = [],  # noqa: B006
    classify: Annotated[bool, typer.Option("--classify", help="Ask for the classes of --examples.")] = False,
    regress: Annotated[bool, typer.Option("--regress", help="Ask for the values of --examples.")] = False,
    examples: Annotated[str | None, typer.Option(help='JSON: [{"FEATURE": [1.5, 2]}, ...].')] = None,
    timeout: Timeout = 60.0, as_json: Json = False,
) -> None:
    """Ask a running server, as `run` asks a model."""
    if classify + regress + bool(input_expr) != 1 or (classify or regress) != (examples is not None):
        raise ConfigError("a request is --input-expr NAME=[[...]], or --classify or --regress with --examples JSON")
    of_examples = examples_of(examples) if examples is not None else []
    with client.connect(server, timeout=timeout) as asked:
        if of_examples:
            answer = asked.classify if classify else asked.regress
            found = answer(model, of_examples, signature=signature, version=version, label=label)
            if as_json:
                print(json.dumps({"results": found}))
            for row in () if as_json else found:
                print(" ".join(f"{one.label}={one.score:.6g}" for one in row) if isinstance(row, list) else row)
            return
        known = asked.metadata(model, signature=signature, version=version, label=label)
        contract = known.signature(signature)
        printing.print_outputs(asked.predict(model, expressions.parse(input_expr, contract), signature=signature,
                                     version=version, label=label), as_json)


@app.command()
def verify(
    what: Annotated[str, typer.Argument(metavar="CONFIG|PUBLICATION", help=(
        "With --served a name in configs/ or a YAML file; else a published version, a model's folder or all of "
        "serving/."
    ))], *,
    served: Annotated[str | None, typer.Option(metavar="HOST", help="The server, as `request` takes it.")] = None,
    model: Annotated[str | None, typer.Option(help="What the server calls it; the config's name by default.")] = None,
    version: Version = None, label: Label = None, signature: Signatures = [],  # noqa: B006
    precision: Annotated[str | None, typer.Option(
        help="Whose default tolerances apply; that of the publication by default.")] = None,
    requests: Annotated[int, typer.Option(min=0, help="So many more are timed of each signature.")] = 100,
    timeout: Timeout = 60.0,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    as_json: Json = False,
) -> None:
    """Judge what a running server answers against the original, or hold what was published against its checksums."""
    if served is None:
        _verify_publication(Path(what), as_json)
        return
    with terminal.Bars(printing.err) as bars:
        bars.stage(f"verify {served}")
        result = api.verify(what, served, model=model, version=version, label=label, signatures=signature,
                            precision=precision, requests=requests, timeout=timeout, progress=bars.progress)
    if junit_file:
        junit.write(result.verdict, junit_file)
    if as_json:
        printing.print_json(result)
    else:
        print(f"{served}: {result.described}")
        print(f"bounds of {result.precision}: {result.precision_from}")
        printing.print_verdict(result.verdict)
        for line in wording.served(result):
            print(line)
    if not result.verdict.passed:
        raise GateError(f"what {served} answers is rejected: {result.verdict.reason}")


def _verify_publication(path: Path, as_json: bool) -> None:
    found = provenance.verify(path)
    if as_json:
        printing.print_json(found)
    else:
        for line in found.lines():
            print(line)
    if found.problems:
        raise GateError(f"{path} is not what was published: {found.problems[0]}")
    if found.unchecked:
        raise InputError(found.unchecked[0])


@app.command()
def serve(
    model: Annotated[list[str], typer.Option(help="NAME=FOLDER of versions; repeatable.")] = [],  # noqa: B006
    config: Annotated[Path | None, typer.Option(help="A models.config, as tensorflow_model_server takes it.")] = None,
    serving: Annotated[Path, typer.Option(help="Serve what is published below this folder.")] = Path("serving"),
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of gRPC; 0 takes a free one.")] = 8500,
    rest_port: Annotated[int, typer.Option(help="Port of the REST API; 0 takes a free one.")] = 8501,
    batching: Annotated[Path | None, typer.Option(help="A batching_parameters.txt; by default serving's own.")] = None,
    no_batching: Annotated[bool, typer.Option("--no-batching", help="Run every request by itself.")] = False,
    poll_seconds: Annotated[float, typer.Option(min=0.01, help="Between looks for new versions.")] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Computations at once; one a core by default.")] = None,
    body_limit: Annotated[int, typer.Option(min=1, help="Largest body of an HTTP request, in bytes.")] = 64 * 2**20,
) -> None:
    """Preview published models over TensorFlow Serving's gRPC and REST APIs."""
    from trt_pipeline import serve as preview

    pairs = [given.partition("=") for given in model]
    wrong = next(("".join(pair) for pair in pairs if not all(pair)), None)
    if wrong is not None:
        raise ConfigError(f"--model '{wrong}': write NAME=FOLDER")
    folders = {name: Path(folder) for name, _, folder in pairs}
    preview.serve(preview.choose(folders, config, serving), preview.Options(
        host=host, port=port, rest_port=rest_port, poll_seconds=poll_seconds, body_limit=body_limit,
        batching=None if no_batching else preview.batching_of(batching, serving),
        **({"threads": threads} if threads else {})))
