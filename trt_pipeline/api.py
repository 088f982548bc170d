"""The verbs of the command line as Python functions."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trt_pipeline import client, inspection, interpreter
from trt_pipeline.backends import BACKENDS
from trt_pipeline.backends import backend as make_backend
from trt_pipeline.backends.base import Backend, ConversionRequest, Progress
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.calibration import ranges as ranges_file
from trt_pipeline.calibration.ranges import Method, RangesFile
from trt_pipeline.candidate import Candidate, describe, described, open_candidate
from trt_pipeline.ci.gate import Checks
from trt_pipeline.client.protocol import Spec
from trt_pipeline.cluster.settings import Cluster
from trt_pipeline.config import loader
from trt_pipeline.config.candidates import CandidateSpec, candidates_of
from trt_pipeline.config.schema import CalibrationSettings, Config, Limits, SampleSources, Target
from trt_pipeline.environment import environment
from trt_pipeline.errors import ConfigError, ModelError, OutputError, PipelineError, Unsupported
from trt_pipeline.finalizing import finish, kit, whole_run
from trt_pipeline.inspection import Inspection
from trt_pipeline.metrics.function import Functions
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import Profile
from trt_pipeline.samples.profiles import check as check_profiles
from trt_pipeline.samples.store import Samples
from trt_pipeline.served import endpoint
from trt_pipeline.served.runner import ServedRunner
from trt_pipeline.served.verify import ServedResult
from trt_pipeline.served.verify import verify as replay
from trt_pipeline.stages import jobs, plan, worker
from trt_pipeline.stages.judges import Judges
from trt_pipeline.stages.observer import Observer, watching
from trt_pipeline.stages.run import ARTIFACTS, run
from trt_pipeline.stages.worker import WorkerFailed
from trt_pipeline.suggest import did_you_mean

_A_DAY = 86400


def optimize(config: str | Path | Config, *, backends: Sequence[str] = (), precisions: Sequence[str] = (),
             output: str | Path = ARTIFACTS, fresh: bool = False, again: bool = False,
             metrics: Functions | None = None, labels: Any = None,
             executor: str | Cluster = "local", checks: Checks | None = None,
             observer: Observer | None = None) -> RunResult:
    """Judge every candidate and publish the best for each target.

    Args:
        config: a name in `configs/`, a path to a YAML file, or a `Config`.
        backends, precisions: limit the candidates to these.
        output: folder of run folders and kept stage results.
        fresh: repeat every stage, kept or not.
        again: publish even what is the newest version already.
        metrics, labels: your own functions of a candidate's outputs and these labels, by name, besides those of the
            configuration; as docs/metrics.md says.
        executor: where candidates are judged: "local", in workers of this machine one after the other, or "ray", on
            that or another cluster.
        checks: what continuous integration asks besides (`ci.gate`); where it is missed, nothing is published.
        observer: who is told how it goes; bars in terminals and notebooks by default.

    Raises:
        InputError: the config, model, samples or a folder is wrong.
        MissingError: this machine lacks what a stage needs.
    """
    with _judges(executor) as judges, watching(observer) as told:
        return run(_config(config), backends=list(backends), precisions=list(precisions), output=Path(output),
                   fresh=fresh, again=again, observer=told, judges=judges,
                   checks=checks, functions=metrics, labels=labels)


def sweep(model: str | Path | Config, *, backends: Sequence[str] = (), precisions: Sequence[str] = (),
          candidates: Sequence[str | CandidateSpec] = (), batch_sizes: Sequence[int] = (),
          duration_s: float | None = None,
          samples: str | None = None, calibration: str | None = None, gate: Gate | None = None,
          early_stopping: bool = True, output: str | Path = ARTIFACTS, fresh: bool = False,
          signatures: Sequence[str] = (), targets: Sequence[Target] = (),
          metrics: Functions | None = None, labels: Any = None,
          executor: str | Cluster = "local", checks: Checks | None = None,
          observer: Observer | None = None) -> RunResult:
    """Judge every candidate and publish nothing; what came of it can be published (`CandidateResult.publish`).

    Args:
        model: a configuration, as for `optimize`; or a SavedModel folder, and then ``samples``.
        candidates: these instead of the configuration's: ``backend/precision`` or a `CandidateSpec` each.
        backends, precisions: limit the candidates to these.
        batch_sizes, duration_s: time candidates at these, besides the objective's, and so long at each.
        samples, calibration: sample sources (see `samples.sources`) of a bare SavedModel.
        gate: bounds that replace the configuration's.
        signatures: only these, instead of the configuration's.
        targets: the servers that a candidate may be published for, instead of the configuration's.
        early_stopping: time a candidate no further once another is as close to the original and surely faster.
        metrics, labels, output, fresh, executor, checks, observer: as for `optimize`.
    """
    if isinstance(model, (str, Path)) and (Path(model) / "saved_model.pb").is_file():
        if samples is None:
            raise ConfigError(f"a sweep of the SavedModel {model} needs samples: give samples='FILE.npz'")
        path = Path(model).resolve()
        name = path.parent.name if path.name.isdigit() else path.name
        sources = SampleSources(validation=samples, calibration=calibration)
        config = _made(name=name, model=Path(model), samples=sources)
    elif samples is not None or calibration is not None:
        raise ConfigError(f"the samples of {model} are those of its configuration: leave --samples out, "
                          "or name a SavedModel")
    else:
        config = _config(model)
    timing = config.benchmark.model_dump() | {"early_stopping": early_stopping}
    if batch_sizes:
        timing["batch_sizes"] = {*batch_sizes, config.objective_batch}
    if duration_s is not None:
        timing["duration_s"] = duration_s
    changes: dict[str, Any] = {"benchmark": timing} | ({"gate": gate} if gate else {})
    if signatures:
        changes["signatures"] = tuple(signatures)
    if targets:
        changes["targets"] = tuple(targets)
    if candidates:
        changes["candidates"] = tuple(candidates)
    config = _changed(config, changes)
    with _judges(executor) as judges, watching(observer) as told:
        return run(config, backends=list(backends), precisions=list(precisions), output=Path(output), fresh=fresh,
                   publishing=False, observer=told, judges=judges,
                   checks=checks, functions=metrics, labels=labels)


def inspect(model: str | Path, tags: Sequence[str] = ("serve",), *, coverage: bool = False,
            python: str | Path | None = None, limits: Limits | None = None) -> Inspection:
    """Contract and operations of a SavedModel; nothing of it is executed.

    Args:
        coverage: also try what the backends that take over parts of a graph would take, in workers.
        python: interpreter of those workers.

    Raises:
        ModelError: it is not a readable SavedModel.
    """
    found = inspection.inspect(Path(model), tuple(tags))
    if not coverage:
        return found
    own = interpreter.examine(Path(python)).python if python else None
    covered: dict[str, Any] = {}
    for name in BACKENDS:
        if type(make_backend(name)).coverage_of is Backend.coverage_of:
            continue
        try:
            covered[name] = _work(jobs.cover, limits, own, backend_name=name, model=str(model),
                                  contract=found.contract.model_dump(mode="json"), folder="")
        except (PipelineError, Unsupported) as error:
            covered[name] = dict.fromkeys(found.contract.signatures, str(error))
    return Inspection.model_validate(found.model_dump() | {"coverage": covered})


def convert(model: str | Path, backend: str, precision: str, output: str | Path, *, calibration: str | None = None,
            signatures: Sequence[str] = (), padding: dict[str, int] | None = None,
            ranges: str | Path | None = None, options: dict[str, Any] | None = None,
            python: str | Path | None = None, limits: Limits | None = None,
            progress: Progress = lambda done, total: None) -> Candidate:
    """Convert a SavedModel into the new folder ``output``; it is not judged.

    Args:
        calibration: sample source of int8's ranges.
        ranges: a ranges file to quantize by instead. What was gone by lies in ``output`` as ranges.json.
        options: as the config's ``backends`` section gives them to this backend.
        python: interpreter of the backend's workers, which convert under it, validate and time: all of that, or
            what needs TensorRT alone.

    Raises:
        ConfigError: backend, precision or a signature is unknown, or ``python`` is no interpreter.
        OutputError: ``output`` exists or cannot be written.
        Unsupported: the backend cannot take the model.
    """
    candidates_of([backend], [precision])
    chosen_backend = make_backend(backend)
    chosen_backend.check_options(options or {})
    target = Path(output)
    if target.exists():
        raise OutputError(f"{target} exists already: name a new folder")
    config = Config(name="convert", model=Path(model), signatures=tuple(signatures) or None, padding=padding or {},
                    samples=SampleSources(validation=""))
    own = interpreter.examine(Path(python)) if python else None
    given = chosen_backend.complete_options(options or {}, own.environment if own else environment())
    contract = inspect(model).contract
    chosen = plan.signatures(config, contract)
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        known = Path(ranges).resolve() if ranges else None
        used = chosen_backend.uses_ranges(precision, given)
        if known:
            ranges_file.read(known, plan.check_model(config))
        elif calibration and used:
            known = _calibrate(Path(model), contract, calibration, chosen, config.padding, Path(scratch),
                               CalibrationSettings(), None, limits, progress)
        request = ConversionRequest(model=Path(model), tags=contract.tags, signatures=chosen, precision=precision,
                                    ranges=known if used else None, options=given)
        try:
            apart = own.python if own and chosen_backend.runs_apart("convert", None) else None
            made = _work(jobs.convert, limits, apart, backend_name=backend, request=request.model_dump(mode="json"),
                         contract=contract.model_dump(mode="json"), folder=str(_parent_made(target)))
            if known and used:
                shutil.copyfile(known, target / ranges_file.FILE)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    candidate = Candidate(backend=backend, precision=precision, artifact=made, folder=target,
                          python=own.python if own else None)
    describe(target, candidate)
    return candidate


def calibrate(model: str | Path, samples: str, output: str | Path, *, method: Method = "minmax",
              percentile: float = 99.99, most: int | None = None, signatures: Sequence[str] = (),
              padding: dict[str, int] | None = None, fresh: bool = False, limits: Limits | None = None,
              progress: Progress = lambda done, total: None) -> RangesFile:
    """Measure the ranges of a SavedModel's tensors on samples and write them to the file ``output``.

    Memory is bounded by the model and a sample for each core. An interrupted calibration goes on where
    it stopped, from a file beside ``output``.

    Args:
        method, percentile: which part of what was seen int8 is to cover; see `calibration.methods`.
        most: use only so many of the samples.
        fresh: begin anew, whatever was interrupted.

    Raises:
        SamplesError: the samples do not fit, or a tensor is not finite on one of them.
        Unsupported: no signature can be frozen.
    """
    target = Path(output)
    if target.is_dir():
        raise OutputError(f"{target} is a folder: name a file")
    checkpoint = target.with_name(f"{target.name}.partial")
    draft = target.with_name(f".{target.name}.draft")
    settings = CalibrationSettings(method=method, percentile=percentile, samples=sys.maxsize if most is None else most)
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        # Only now: bad input leaves no folder behind, and a result that has nowhere to go is not worked for.
        made = _calibrate(Path(model), inspect(model).contract, samples, tuple(signatures), padding or {},
                          Path(scratch), settings, checkpoint, limits or Limits(time_s=_A_DAY), progress,
                          ready=lambda: _prepare_output(draft, checkpoint if fresh else None))
        try:
            shutil.copyfile(made, draft)
            draft.replace(target)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise OutputError(f"cannot write {target}: {error.strerror}") from None
    return RangesFile.model_validate_json(target.read_text())


def _prepare_output(draft: Path, forgotten: Path | None) -> None:
    """Make the folder of ``draft`` and see that it can be written to; drop the checkpoint ``forgotten``."""
    _parent_made(draft)
    try:
        draft.touch()
        draft.unlink()
        if forgotten:
            forgotten.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {draft.parent}: {error.strerror}; choose another folder") from None


def _calibrate(model: Path, contract: Contract, samples: str, signatures: tuple[str, ...], padding: dict[str, int],
               folder: Path, settings: CalibrationSettings, checkpoint: Path | None, limits: Limits | None,
               progress: Progress, ready: Callable[[], None] = lambda: None) -> Path:
    """Calibrate in a worker, once ``ready`` has been called with all input checked; returns the file, in ``folder``."""
    config = Config(name="calibrate", model=model, signatures=signatures or None, padding=padding,
                    samples=SampleSources(validation=samples, calibration=samples))
    chosen = plan.signatures(config, contract)
    sets = plan.open_samples(config, contract, chosen, "calibration", folder)
    assert sets
    ready()
    _work(jobs.calibrate, limits, None, progress, model=str(model), contract=contract.model_dump(mode="json"),
          signatures=chosen, samples={name: str(path) for name, path in sets.folders.items()}, padding=padding,
          model_digest=plan.check_model(config), samples_digest=sets.digest, **settings.measuring,
          checkpoint=str(checkpoint) if checkpoint else None, folder=str(folder))
    return folder / ranges_file.FILE


def validate(reference: str | Path, candidate: str | Path, samples: str, *, gate: Gate | None = None,
             signatures: Sequence[str] = (), padding: dict[str, int] | None = None, precision: str | None = None,
             limits: Limits | None = None) -> Verdict:
    """Judge ``candidate`` against the SavedModel ``reference`` on ``samples`` and their corners.

    Args:
        candidate: a SavedModel, an ONNX file, or a folder that `convert` wrote.
        precision: whose default tolerances apply; that of the candidate by default.
    """
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        opened = _Opened.of(reference, samples, signatures, padding, Path(scratch))
        judged = open_candidate(Path(candidate), opened.contract)
        folder = Path(scratch, "reference")
        index = opened.refer(limits, folder).model_dump(mode="json")
        verdict = _work(jobs.validate, limits, judged.interpreter("validate"), backend_name=judged.backend,
                        precision=precision or judged.precision,
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
        opened = _Opened.of(reference, samples, signatures, padding, Path(scratch))

        def side(path: str | Path) -> dict[str, Any]:
            found = open_candidate(Path(path), opened.contract)
            python = found.interpreter("benchmark")
            return {"backend": found.backend, "artifact": found.artifact.model_dump(mode="json"),
                    "folder": str(found.folder), "threads": threads,
                    "python": str(python) if python else None,
                    **{key: opened.arguments[key] for key in ("contract", "samples", "padding")}}

        result = _work(jobs.benchmark, limits, None, original=side(reference), candidate=side(candidate),
                       signatures=opened.chosen, batch_sizes=tuple(batch_sizes), duration_s=duration_s, folder=scratch)
    return BenchmarkResult.model_validate(result)


def finalize(candidate: str | Path, output: str | Path, *, reference: str | Path | None = None,
             samples: str | None = None, calibration: str | None = None, gate: Gate | None = None,
             signatures: Sequence[str] = (), padding: dict[str, int] | None = None, profiles: Sequence[Profile] = (),
             python: str | Path | None = None, limits: Limits | None = None,
             progress: Progress = lambda done, total: None) -> CandidateResult:
    """Build the engines of a candidate that was converted elsewhere, on this GPU, and judge and time it for real.

    Every engine is built beforehand, for the shapes of the samples, their corners and ``profiles``; the
    written model may build none, and is judged in a process of its own, in which a request that an
    engine does not answer is a failure.

    Args:
        candidate: a folder that `convert` wrote, or the folder of a run's candidate, which brings its
            samples and the original's answers along.
        output: the new folder of the finished candidate.
        reference, samples: the original and sample source, instead of what the candidate brought; engines
            of the backend tensorrt are only finished beside the original.
        calibration: sample source for TensorRT's own int8 calibrator.
        gate, profiles: instead of what the candidate brought.
        python: interpreter to build and run it under; that which converted it by default, if it is here.

    Returns:
        What became of it; also written to ``output`` as result.json.

    Raises:
        InputError: there is nothing to judge it by, or ``output`` exists.
        MissingError: this machine has no GPU or lacks a library.
    """
    target = Path(output)
    if target.exists():
        raise OutputError(f"{target} exists already: name a new folder")
    made = described(Path(candidate))
    if made is None:
        raise ModelError(f"{candidate} is no converted candidate: give a folder that 'trt-pipeline convert' wrote")
    if not make_backend(made.backend).finalizes:
        raise ConfigError(f"{candidate} is complete: what {made.backend} makes needs no finalize")
    known_python = made.python if made.python and interpreter.is_executable(made.python) else None
    own = interpreter.examine(Path(python)).python if python else known_python
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        folder = made.folder / kit.FOLDER
        if samples is not None:
            if reference is None:
                raise ConfigError("--samples without --reference: name the original too")
            opened = _Opened.of(reference, samples, signatures, padding, Path(scratch), calibration)
            folder = Path(scratch, "kit")
            opened.pack(folder, gate or Gate(), limits, Path(scratch))
        if reference is None and make_backend(made.backend).grafts:
            raise ConfigError(f"--reference is missing: {made.backend} is timed against the original, and puts its "
                              "engines into it")
        packed = kit.read(folder)
        packed = packed.model_copy(update={"gate": gate or packed.gate, "profiles": tuple(profiles) or packed.profiles})
        check_profiles(packed.profiles, {name: packed.contract.signatures[name] for name in packed.signatures})
        original = Path(reference) if reference else None
        return finish.finish(made, packed, folder, _parent_made(target), original, own, limits or Limits(), progress)


def finalize_run(run: str | Path, output: str | Path, *, reference: str | Path | None = None,
                 python: str | Path | None = None, limits: Limits | None = None, checks: Checks | None = None,
                 observer: Observer | None = None) -> RunResult:
    """Finish every candidate of a run that waits for a GPU, on this one, as `finalize` does; nothing is published.

    Args:
        run: a run's folder, or that of a model's runs (``artifacts/NAME``), of which the newest is taken.
        output: the new folder of the finished run: candidates, report.json, report.html.
        reference: the original; the model that the run was of, where it is here unchanged, by default.
        checks: what is asked of these candidates.

    Raises:
        InputError: there is no run, nothing in it waits, or ``output`` exists.
        MissingError: this machine lacks what all of them need.
    """
    folder = whole_run.find(Path(run))
    if folder is None:
        raise ModelError(f"{run} is no run and has none: name a run's folder, such as artifacts/NAME")
    original = Path(reference) if reference else whole_run.original(whole_run.read(folder))

    def one(candidate: Path, target: Path) -> CandidateResult:
        return finalize(candidate, target, reference=original, python=python, limits=limits)

    with watching(observer) as told:
        return whole_run.finish(folder, _parent_made(Path(output)), one, told, checks)


def verify(config: str | Path | Config, served: str, *, model: str | None = None, version: int | None = None,
           label: str | None = None, signatures: Sequence[str] = (), precision: str | None = None, requests: int = 100,
           timeout: float = 60.0, limits: Limits | None = None,
           progress: Progress = lambda done, total: None) -> ServedResult:
    """Judge what a running server answers by the configuration's gate, on its validation samples and their corners.

    Args:
        served: the server's address, as `client.connect` takes it: ``grpc://localhost:8500`` or another protocol.
        model: what the server calls the model; the configuration's name by default. Of the model's signatures, Triton
            serves each as a model (`publish.triton.triton_name`).
        version, label: one of them, or the newest version.
        signatures: only these of the configuration's.
        precision: whose default bounds apply; that of the publication of the served version by default, the
            original's where none is known.
        requests: so many more are timed of each signature, one sample each, one after the other.
        timeout: seconds that a request may take.

    Raises:
        UnreachableError: no server answers.
        RequestError: it has no such model, version or signature.
        InputError: it has something else under that name.
    """
    settings = _config(config)
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        opened = _Opened(settings, Path(scratch), signatures)
        with client.connect(served, timeout=timeout) as server:
            endpoints = endpoint.find(server, Spec(model or settings.name, version, label), opened.contract,
                                      opened.chosen, opened.configured)
            described = server.describe()
        known = (precision, "it was given") if precision else endpoint.published_precision(settings, served, endpoints)
        answers = Path(scratch, "reference")
        reference = opened.refer(limits or settings.limits, answers)
        samples = {name: Samples(folder, settings.padding) for name, folder in opened.validation.folders.items()}
        verdict, found = replay(ServedRunner(opened.contract, served, endpoints, timeout), reference, answers, samples,
                                settings.gate, known[0], requests, progress)
    return ServedResult(server=served, described=described, precision=known[0], precision_from=known[1],
                        verdict=verdict, signatures=found)


class _Opened:
    """A reference model and its checked samples, ready for a job."""

    def __init__(self, config: Config, scratch: Path, only: Sequence[str] = ()) -> None:
        self.config = config
        self.contract = inspect(config.model, config.tags).contract
        self.configured = plan.signatures(config, self.contract)
        for name in only:
            if name not in self.configured:
                raise ConfigError(f"no signature '{name}' is judged: the configuration has "
                                  f"{', '.join(self.configured)}{did_you_mean(name, self.configured)}")
        self.chosen = tuple(name for name in self.configured if not only or name in only)
        sets = plan.open_samples(self.config, self.contract, self.chosen, "validation", scratch)
        assert sets
        self.validation = sets
        self.calibration = plan.open_samples(self.config, self.contract, self.chosen, "calibration", scratch)
        self.arguments: dict[str, Any] = {
            "contract": self.contract.model_dump(mode="json"), "signatures": self.chosen,
            "samples": {name: str(folder) for name, folder in sets.folders.items()}, "padding": self.config.padding}

    @classmethod
    def of(cls, model: str | Path, samples: str, signatures: Sequence[str], padding: dict[str, int] | None,
           scratch: Path, calibration: str | None = None) -> _Opened:
        """A bare SavedModel with a sample source."""
        return cls(Config(name="model", model=Path(model), signatures=tuple(signatures) or None,
                          samples=SampleSources(validation=samples, calibration=calibration), padding=padding or {}),
                   scratch)

    def refer(self, limits: Limits | None, folder: Path) -> Reference:
        """The original's outputs on the samples, stored in ``folder``, with their noise floors."""
        most = self.config.max_batch_size
        index = _work(jobs.refer, limits, None, model=str(self.config.model), **self.arguments,
                      batch_size=min(8, most), max_batch_size=most, folder=str(folder))
        floors: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(PipelineError):  # too large to be measured: judged as if it had no noise
            floors = _work(jobs.measure_noise, limits, None, model=str(self.config.model), reference_index=index,
                           reference_folder=str(folder), folder=str(folder.parent),
                           **{key: self.arguments[key] for key in ("contract", "samples", "padding")})
        return Reference.model_validate(index).with_noise(floors)

    def pack(self, folder: Path, gate: Gate, limits: Limits | None, scratch: Path) -> None:
        """Write a kit to ``folder``."""
        answers = scratch / "reference"
        packed = kit.Kit(contract=self.contract, signatures=self.chosen, reference=self.refer(limits, answers),
                         gate=gate, padding=self.config.padding, profiles=(), benchmark=self.config.benchmark)
        kit.write(packed, folder, answers, self.validation.folders,
                  self.calibration.folders if self.calibration else {})


def _judges(executor: str | Cluster) -> AbstractContextManager[Judges | None]:
    """Who judges candidates; None for workers of this machine."""
    if executor == "local":
        return contextlib.nullcontext()
    if executor != "ray" and not isinstance(executor, Cluster):
        raise ConfigError(f"no executor '{executor}': there are local and ray"
                          f"{did_you_mean(str(executor), ('local', 'ray'))}")
    from trt_pipeline.cluster.judges import connected

    return connected(executor if isinstance(executor, Cluster) else Cluster())


def _changed(config: Config, changes: dict[str, Any]) -> Config:
    """``config`` with ``changes``, checked as a whole."""
    return _made(**({name: getattr(config, name) for name in type(config).model_fields} | changes))


def _made(**settings: Any) -> Config:
    """A configuration. Raises ConfigError where its parts do not go together."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


def _config(given: str | Path | Config) -> Config:
    return given if isinstance(given, Config) else loader.load(loader.find(str(given)))


def _parent_made(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {target.parent}: {error.strerror}; choose another folder") from None
    return target


def _work(function: Any, limits: Limits | None, python: Path | None,
          progress: Progress = lambda done, total: None, **arguments: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as logs:
        try:
            return worker.run(function, arguments, limits or Limits(), Path(logs, "log.txt"), progress,
                              python=python).value
        except WorkerFailed as error:
            raise PipelineError(str(error)) from None
