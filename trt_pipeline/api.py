"""The verbs of the command line as Python functions."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trt_pipeline import inspection
from trt_pipeline.backends.base import ConversionRequest
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.candidate import Candidate, describe, open_candidate
from trt_pipeline.config import loader
from trt_pipeline.config.schema import Config, Limits, SampleSources, candidates_of
from trt_pipeline.errors import ConfigError, OutputError, PipelineError
from trt_pipeline.inspection import Inspection
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages import jobs, plan, worker
from trt_pipeline.stages.run import ARTIFACTS, Observer, run
from trt_pipeline.stages.worker import WorkerFailed


def optimize(config: str | Path | Config, *, backends: Sequence[str] = (), precisions: Sequence[str] = (),
             output: str | Path = ARTIFACTS, fresh: bool = False, again: bool = False,
             observer: Observer | None = None) -> RunResult:
    """Judge every candidate and publish the best for each target.

    Args:
        config: a name in `configs/`, a path to a YAML file, or a `Config`.
        backends, precisions: limit the candidates to these.
        output: folder of run folders and kept stage results.
        fresh: repeat every stage, kept or not.
        again: publish even what is the newest version already.

    Raises:
        InputError: the config, model, samples or a folder is wrong.
        MissingError: this machine lacks what a stage needs.
    """
    return run(_config(config), backends=list(backends), precisions=list(precisions), output=Path(output),
               fresh=fresh, again=again, observer=observer)


def sweep(model: str | Path | Config, *, backends: Sequence[str] = (), precisions: Sequence[str] = (),
          samples: str | None = None, calibration: str | None = None, gate: Gate | None = None,
          output: str | Path = ARTIFACTS, fresh: bool = False, observer: Observer | None = None) -> RunResult:
    """Judge every candidate and publish nothing.

    Args:
        model: a configuration, as for `optimize`; or a SavedModel folder, and then ``samples``.
        samples, calibration: sample sources (see `samples.sources`) of a bare SavedModel.
        gate: bounds that replace the configuration's.
    """
    if isinstance(model, (str, Path)) and (Path(model) / "saved_model.pb").is_file():
        if samples is None:
            raise ConfigError(f"a sweep of the SavedModel {model} needs samples: give samples='FILE.npz'")
        path = Path(model).resolve()
        name = path.parent.name if path.name.isdigit() else path.name
        sources = SampleSources(validation=samples, calibration=calibration)
        config = Config(name=name, model=Path(model), samples=sources)
    elif samples is not None or calibration is not None:
        raise ConfigError(f"the samples of {model} are those of its configuration: leave --samples out, "
                          "or name a SavedModel")
    else:
        config = _config(model)
    if gate:
        config = config.model_copy(update={"gate": gate})
    return run(config, backends=list(backends), precisions=list(precisions), output=Path(output), fresh=fresh,
               publishing=False, observer=observer)


def inspect(model: str | Path, tags: Sequence[str] = ("serve",)) -> Inspection:
    """Contract and operations of a SavedModel; nothing of it is executed.

    Raises:
        ModelError: it is not a readable SavedModel.
    """
    return inspection.inspect(Path(model), tuple(tags))


def convert(model: str | Path, backend: str, precision: str, output: str | Path, *, calibration: str | None = None,
            signatures: Sequence[str] = (), padding: dict[str, int] | None = None,
            limits: Limits | None = None) -> Candidate:
    """Convert a SavedModel into the new folder ``output``; it is not judged.

    Raises:
        ConfigError: backend, precision or a signature is unknown.
        OutputError: ``output`` exists or cannot be written.
        Unsupported: the backend cannot take the model.
    """
    candidates_of([backend], [precision])
    target = Path(output)
    if target.exists():
        raise OutputError(f"{target} exists already: name a new folder")
    config = Config(name="convert", model=Path(model), signatures=tuple(signatures) or None, padding=padding or {},
                    samples=SampleSources(validation=calibration or "", calibration=calibration))
    contract = inspect(model).contract
    chosen = plan.signatures(config, contract)
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        sets = plan.open_samples(config, contract, chosen, "calibration", Path(scratch)) if calibration else None
        request = ConversionRequest(model=Path(model), tags=contract.tags, signatures=chosen, precision=precision,
                                    samples=sets.folders if sets else {}, padding=config.padding)
        made = _work(jobs.convert, limits, backend_name=backend, request=request.model_dump(mode="json"),
                     contract=contract.model_dump(mode="json"), folder=str(_parent_made(target)))
    candidate = Candidate(backend=backend, precision=precision, artifact=made, folder=target)
    describe(target, candidate)
    return candidate


def validate(reference: str | Path, candidate: str | Path, samples: str, *, gate: Gate | None = None,
             signatures: Sequence[str] = (), padding: dict[str, int] | None = None, precision: str | None = None,
             limits: Limits | None = None) -> Verdict:
    """Judge ``candidate`` against the SavedModel ``reference`` on ``samples`` and their corners.

    Args:
        candidate: a SavedModel, an ONNX file, or a folder that `convert` wrote.
        precision: whose default tolerances apply; that of the candidate by default.
    """
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        opened = _Opened(reference, samples, signatures, padding, Path(scratch))
        judged = open_candidate(Path(candidate), opened.contract)
        folder = Path(scratch, "reference")
        index = _work(jobs.refer, limits, model=str(reference), **opened.arguments, batch_size=8,
                      max_batch_size=opened.config.max_batch_size, folder=str(folder))
        floors: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(PipelineError):  # too large to be measured: judged as if it had no noise
            floors = _work(jobs.measure_noise, limits, model=str(reference), reference_index=index,
                           reference_folder=str(folder), folder=scratch,
                           **{key: opened.arguments[key] for key in ("contract", "samples", "padding")})
        index = Reference.model_validate(index).with_noise(floors).model_dump(mode="json")
        verdict = _work(jobs.validate, limits, backend_name=judged.backend, precision=precision or judged.precision,
                        artifact=judged.artifact.model_dump(mode="json"), artifact_folder=str(judged.folder),
                        contract=opened.arguments["contract"], reference_index=index, reference_folder=str(folder),
                        samples=opened.arguments["samples"], padding=opened.arguments["padding"],
                        gate=(gate or Gate()).model_dump(mode="json", exclude_none=True), folder=scratch)
    return Verdict.model_validate(verdict)


def benchmark(reference: str | Path, candidate: str | Path, samples: str, *, batch_sizes: Sequence[int] = (1, 8),
              duration_s: float = 4.0, threads: int | None = None, signatures: Sequence[str] = (),
              padding: dict[str, int] | None = None, limits: Limits | None = None) -> BenchmarkResult:
    """Time ``candidate`` against the SavedModel ``reference``, interleaved, each in its own process."""
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        opened = _Opened(reference, samples, signatures, padding, Path(scratch))

        def side(path: str | Path) -> dict[str, Any]:
            found = open_candidate(Path(path), opened.contract)
            return {"backend": found.backend, "artifact": found.artifact.model_dump(mode="json"),
                    "folder": str(found.folder), "threads": threads,
                    **{key: opened.arguments[key] for key in ("contract", "samples", "padding")}}

        result = _work(jobs.benchmark, limits, original=side(reference), candidate=side(candidate),
                       signatures=opened.chosen, batch_sizes=tuple(batch_sizes), duration_s=duration_s, folder=scratch)
    return BenchmarkResult.model_validate(result)


class _Opened:
    """A reference model and its checked samples, ready for a job."""

    def __init__(self, model: str | Path, samples: str, signatures: Sequence[str], padding: dict[str, int] | None,
                 scratch: Path) -> None:
        self.config = Config(name="model", model=Path(model), signatures=tuple(signatures) or None,
                             samples=SampleSources(validation=samples), padding=padding or {})
        self.contract = inspect(model).contract
        self.chosen = plan.signatures(self.config, self.contract)
        sets = plan.open_samples(self.config, self.contract, self.chosen, "validation", scratch)
        assert sets
        self.arguments: dict[str, Any] = {
            "contract": self.contract.model_dump(mode="json"), "signatures": self.chosen,
            "samples": {name: str(folder) for name, folder in sets.folders.items()}, "padding": self.config.padding}


def _config(given: str | Path | Config) -> Config:
    return given if isinstance(given, Config) else loader.load(loader.find(str(given)))


def _parent_made(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {target.parent}: {error.strerror}; choose another folder") from None
    return target


def _work(function: Any, limits: Limits | None, **arguments: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as logs:
        try:
            return worker.run(function, arguments, limits or Limits(), Path(logs, "log.txt")).value
        except WorkerFailed as error:
            raise PipelineError(str(error)) from None
