"""The command line: a thin skin over `trt_pipeline.api`; results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trt_pipeline import api, client, device, doctor, expressions
from trt_pipeline.calibration.ranges import Method
from trt_pipeline.config import template
from trt_pipeline.config.loader import CONFIG_FOLDER
from trt_pipeline.config.schema import Name
from trt_pipeline.errors import (
    ConfigError,
    GateError,
    InputError,
    ModelError,
    OutputError,
    PipelineError,
    Unsupported,
    one_line,
)
from trt_pipeline.frozen import Frozen
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.tolerance import Gate, OutputGate
from trt_pipeline.report import junit, terminal, wording, write_html
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import Extent
from trt_pipeline.stages.run import ARTIFACTS
from trt_pipeline.suggest import did_you_mean

app = typer.Typer(help="Publish the fastest version of a SavedModel that still says what the original said.",
                  add_completion=False, no_args_is_help=True,
                  pretty_exceptions_enable=False, rich_markup_mode=None,
                  context_settings={"help_option_names": ["-h", "--help"]})
_out, _err = Console(), Console(stderr=True)

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
    with terminal.Bars(_err) as bars:
        result = api.optimize(resolved, backends=backend, precisions=precision, output=output, fresh=fresh,
                              again=republish, observer=bars)
    _show_run(result, as_json)
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
    with terminal.Bars(_err) as bars:
        result = api.sweep(config, backends=backend, precisions=precision, samples=samples, calibration=calibration,
                           output=output, fresh=fresh, observer=bars)
    _show_run(result, as_json)
    if not as_json:
        print("Pareto front (speed, parity): " + ", ".join(c.name for c in result.pareto()))


@app.command()
def inspect(model: Path, tags: Annotated[str, typer.Option(help="Comma-separated tags.")] = "serve",
            coverage: Annotated[bool, typer.Option(
                help="Also try what TensorRT would take of each signature.")] = True,
            python: Python = None, as_json: Json = False) -> None:
    """Contract, operation counts, what keeps which signature off which backend, and what TensorRT would take."""
    found = api.inspect(model, tags.split(","), coverage=coverage, python=python)
    if as_json:
        _print_json(found)
        return
    terminal.print_inspection(found, _out)


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
    with terminal.Bars(_err) as bars:
        bars.stage(f"calibrate {model}")
        found = api.calibrate(model, samples, output, method=chosen, percentile=percentile, most=most,
                              signatures=signature, padding=_padding(pad), fresh=fresh, progress=bars.progress)
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
                       padding=_padding(pad), ranges=ranges, options=_options(option), python=python)
    print(f"{output}: {made.artifact.kind}, {', '.join(dict.fromkeys(made.artifact.files.values()))}")
    for note in made.artifact.notes:
        print(note)


@app.command()
def finalize(
    candidate: Annotated[Path, typer.Argument(help="A folder that convert wrote, or of a run's candidate.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist.")],
    reference: Annotated[Path | None, typer.Option(help="The original; timed against, where it is here.")] = None,
    samples: Annotated[str | None, typer.Option(help="Samples, where the candidate brings none.")] = None,
    calibration: Annotated[str | None, typer.Option(help="Samples for TensorRT's own int8 calibrator.")] = None,
    tolerance: Tolerances = [], signature: Signatures = [], pad: Padding = [],  # noqa: B006
    profile: Annotated[list[str], typer.Option(
        help="INPUT={min: [1, 4], opt: [8, 16], max: [32, 64]} that engines must serve; repeatable.")] = [],  # noqa: B006
    python: Python = None, as_json: Json = False,
) -> None:
    """On the target GPU: build the engines of a candidate converted elsewhere, judge and time it for real."""
    with terminal.Bars(_err) as bars:
        bars.stage(f"finalize {candidate}")
        result = api.finalize(candidate, output, reference=reference, samples=samples, calibration=calibration,
                              gate=_gate(tolerance) if tolerance else None, signatures=signature,
                              padding=_padding(pad), profiles=[_profile(text) for text in profile], python=python,
                              progress=bars.progress)
    if as_json:
        _print_json(result)
    else:
        terminal.print_finished(result, output, _out)
    if result.status != "ok":
        raise GateError(f"{output} was built and is rejected: {result.reason}")


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
    verdict = api.validate(reference, candidate, samples, gate=_gate(tolerance), signatures=signature,
                           padding=_padding(pad), precision=precision)
    if junit_file:
        junit.write(verdict, junit_file)
    if as_json:
        _print_json(verdict)
    else:
        _print_verdict(verdict)
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
                                           signatures=signature, padding=_padding(pad))
    if as_json:
        print(json.dumps({name: r.model_dump(mode="json") for name, r in results.items()}))
        return
    terminal.print_timings(results, _out)


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
    _print_outputs(outputs, as_json)


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
    of_examples = _examples(examples) if examples is not None else []
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
        _print_outputs(asked.predict(model, expressions.parse(input_expr, contract), signature=signature,
                                     version=version, label=label), as_json)


@app.command()
def verify(
    config: Annotated[str, typer.Argument(help="A name in configs/, or a YAML file.")],
    served: Annotated[str, typer.Option(metavar="HOST", help="The server, as `request` takes it.")],
    model: Annotated[str | None, typer.Option(help="What the server calls it; the config's name by default.")] = None,
    version: Version = None, label: Label = None, signature: Signatures = [],  # noqa: B006
    precision: Annotated[str | None, typer.Option(
        help="Whose default tolerances apply; that of the publication by default.")] = None,
    requests: Annotated[int, typer.Option(min=0, help="So many more are timed of each signature.")] = 100,
    timeout: Timeout = 60.0,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    as_json: Json = False,
) -> None:
    """Judge what a running server answers against the original; exit status 1 when the gate is not met."""
    with terminal.Bars(_err) as bars:
        bars.stage(f"verify {served}")
        result = api.verify(config, served, model=model, version=version, label=label, signatures=signature,
                            precision=precision, requests=requests, timeout=timeout, progress=bars.progress)
    if junit_file:
        junit.write(result.verdict, junit_file)
    if as_json:
        _print_json(result)
    else:
        print(f"{served}: {result.described}")
        print(f"bounds of {result.precision}: {result.precision_from}")
        _print_verdict(result.verdict)
        for line in wording.served(result):
            print(line)
    if not result.verdict.passed:
        raise GateError(f"what {served} answers is rejected: {result.verdict.reason}")


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


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]) -> None:
    """(Re)write report.html of a run."""
    source = run_folder / "report.json"
    try:
        result = RunResult.model_validate_json(source.read_text())
    except OSError:
        raise InputError(f"{run_folder} is no finished run: it has no report.json") from None
    except ValidationError:
        raise InputError(f"{source} was written by another version: run optimize again") from None
    write_html(result, run_folder / "report.html")
    print(f"{run_folder / 'report.html'} written")


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
    _out.print(table)


def main() -> None:
    """Run the command line; every error is one line and the exit status of its kind."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except PipelineError as error:
        _fail(str(error), error.exit_status)
    except Unsupported as error:
        _fail(str(error), ModelError.exit_status)
    except ValidationError as error:
        _fail(str(error.errors()[0]["msg"]).removeprefix("Value error, "), ConfigError.exit_status)
    except ImportError as error:
        _fail(f"the package {error.name} is missing: pip install {error.name}", 3)
    except _Interrupted as interrupted:
        _fail("interrupted; what was finished is kept and the next run goes on from there", interrupted.status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("TRT_PIPELINE_TRACEBACK"):
            raise
        _fail(f"unexpected {type(error).__name__}: {one_line(error)}; "
              "set TRT_PIPELINE_TRACEBACK=1 to see where, and please report it", 70)


class _Interrupted(BaseException):
    """Ctrl-C or SIGTERM: passes through every handler, so workers are stopped and nothing is half-written."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.status = 128 + signal_number


def _interrupt(signal_number: int, _: object) -> None:
    raise _Interrupted(signal_number)


def _fail(message: str, status: int) -> None:
    print(f"trt-pipeline: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _show_run(result: RunResult, as_json: bool) -> None:
    if as_json:
        _print_json(result)
    else:
        terminal.print_summary(result, _out)


def _print_json(document: Frozen) -> None:
    print(document.model_dump_json())


def _print_outputs(outputs: Mapping[str, Any], as_json: bool) -> None:
    import numpy as np

    if as_json:
        print(json.dumps({name: value.tolist() for name, value in outputs.items()}, default=_as_text))
        return
    for name, value in outputs.items():
        print(f"Result for output key {name}:\n{np.array2string(value, threshold=sys.maxsize)}")


def _print_verdict(verdict: Verdict) -> None:
    for output in verdict.outputs:
        word = "passes" if output.passed else "FAILS"
        print(f"{output.signature}.{output.output}: {word} ({output.gate})")


def _gate(tolerances: list[str]) -> Gate:
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


def _profile(text: str) -> dict[str, Extent]:
    name, _, extent = text.partition("=")
    try:
        return {name: Extent.model_validate(yaml.safe_load(extent))}
    except (yaml.YAMLError, ValidationError):
        raise ConfigError(f"--profile '{text}': write INPUT={{min: [...], opt: [...], max: [...]}} with "
                          "1 <= min <= opt <= max in each dimension") from None


def _options(given: list[str]) -> dict[str, Any]:
    try:
        return {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in given)}
    except yaml.YAMLError:
        raise ConfigError(f"--option '{given[0]}': write NAME=VALUE") from None


def _padding(given: list[str]) -> dict[str, int]:
    try:
        return {name: int(value) for name, _, value in (text.partition("=") for text in given)}
    except ValueError:
        raise ConfigError(f"--pad '{given[0]}': write INPUT=VALUE with a whole number") from None


def _examples(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise ConfigError(f"--examples '{text[:60]}': write JSON such as [{{\"FEATURE\": [1.5, 2]}}]")
    return found


def _as_text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
