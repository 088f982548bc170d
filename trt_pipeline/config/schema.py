"""The configuration as data. `configs/enko.yaml` shows every part in use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from trt_pipeline import figures
from trt_pipeline.backends import BACKENDS
from trt_pipeline.calibration.ranges import Method
from trt_pipeline.config.candidates import CandidateSpec, check_name
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import PythonPath
from trt_pipeline.parity.tolerance import PRECISION_BOUNDS, Gate
from trt_pipeline.publish import servers
from trt_pipeline.samples.profiles import Profile
from trt_pipeline.suggest import did_you_mean

METRICS = figures.TIMED


def _safe_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", name):
        raise ValueError("a name is letters, digits, '_', '.' and '-', and starts with a letter or digit")
    if name == "triton":
        raise ValueError("'triton' is the folder of Triton's model repository: choose another name")
    if name.endswith((".config", ".json", ".txt", ".yaml")):
        raise ValueError(f"'{name}' looks like one of the files for servers, beside which the model's folder will be: "
                         "choose a name without an extension")
    return name


def _configurable(name: str) -> str:
    """A backend that has settings: any but the original, which is what the run's own interpreter says."""
    known = [backend for backend in BACKENDS if backend != "original"]
    if name not in known:
        raise ValueError(f"no backend '{name}' to configure: there are {', '.join(known)}{did_you_mean(name, known)}")
    return name


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", text):
        raise ValueError("a label is letters, digits, '_', '.' and '-'")
    return text


Name = Annotated[str, AfterValidator(_safe_name)]
VersionNumber = Annotated[int, Field(ge=1)]
CandidateName = Annotated[str, AfterValidator(check_name)]


def _metric_name(text: str) -> str:
    if not re.fullmatch(r"[^\s<>=@]{1,128}", text):
        raise ValueError("a metric's name has no spaces and none of '<', '>', '=' and '@'")
    return text


def _function(text: str) -> str:
    if not re.fullmatch(r"(?:[\w.]+|.+\.py):[^\W\d][\w.]*", text):
        raise ValueError(f"'{text}' is no function: name one as package.module:function or path/to/file.py:function")
    return text


class SampleSources(Frozen):
    """Where samples come from: one source for all signatures, or one for each.

    ``validation`` judges parity and feeds the benchmark; ``calibration`` sets int8 ranges and must
    not be the same data.
    """

    validation: str | dict[str, str]
    calibration: str | dict[str, str] | None = None

    def of(self, kind: Literal["validation", "calibration"], signature: str) -> str | None:
        """The source of one signature's samples."""
        given = self.validation if kind == "validation" else self.calibration
        return given.get(signature) if isinstance(given, dict) else given


class BackendSettings(Frozen):
    """What one backend's candidates are made with."""

    python: PythonPath | None = None
    """Interpreter of its workers, where its libraries are not those of the run's own."""
    options: dict[str, JsonValue] = {}
    """Handed to its conversions as they are."""


class CalibrationSettings(Frozen):
    """How the ranges are found that int8 goes by, and that tell what would overflow in fp16."""

    method: Method = "minmax"
    """What of each tensor int8 is to cover: everything seen (minmax), all but outliers (percentile),
    what keeps most information (entropy), or what makes the smallest error (mse)."""
    percentile: float = Field(99.99, ge=50, le=100)
    samples: int = Field(128, ge=1, description="so many of the calibration samples at most")
    ranges: Path | None = None
    """A ranges file made elsewhere, by `trt-pipeline calibrate` or an earlier run, to go by instead."""

    @property
    def measuring(self) -> dict[str, Any]:
        """What a calibration depends on, as `stages.jobs.calibrate` takes it."""
        return {"method": self.method, "percentile": self.percentile, "most": self.samples}


class IslandSettings(Frozen):
    """Which nodes stay in float32 so that a candidate of a lower precision keeps its gate."""

    evaluations: int = Field(48, ge=0, description="sets that a search may try, by signature; 0 never searches")
    pinned: dict[CandidateName, Path] = {}
    """Candidate -> file of its islands, as a run leaves them in its folder: no search then."""


class BenchmarkSettings(Frozen):
    """How candidates are timed against the original."""

    batch_sizes: tuple[int, ...] = (1, 8)
    duration_s: float = Field(4.0, gt=0, description="time per batch size, both sides together")
    threads: int | None = Field(None, ge=1)
    early_stopping: bool = False
    """Time a candidate no further once it is dominated: another that every target loads too is as close to the
    original, and faster by more than the uncertainty of both. A sweep does so by default."""

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or min(sizes) < 1:
            raise ValueError("batch sizes are whole numbers from 1 on")
        return tuple(sorted(set(sizes)))


class Limits(Frozen):
    """What one worker may use before it is stopped."""

    time_s: float = Field(1800, gt=0)
    memory_gb: float = Field(8.0, gt=0)


class Target(Frozen):
    """A server that publications are for."""

    kind: Literal["tf-serving", "triton"]
    version: str

    @model_validator(mode="after")
    def _known_server(self) -> Target:
        servers.loadable_kinds(self.kind, self.version)
        return self


class Latest(Frozen):
    """Serve so many of the newest versions."""

    latest: int = Field(ge=1)


class Specific(Frozen):
    """Serve these versions only, whatever is published later."""

    specific: tuple[VersionNumber, ...] = Field(min_length=1)


class VersionSettings(Frozen):
    """Which published versions TensorFlow Serving keeps loaded, and the labels that clients find them by."""

    serve: Literal["all"] | Latest | Specific = Latest(latest=2)
    labels: dict[Annotated[str, AfterValidator(_label)], Literal["newest", "previous"] | VersionNumber] = {
        "stable": "previous", "canary": "newest"}
    """Label -> the newest version, the one before it (the newest while there is only one), or a number."""


class Config(Frozen):
    """One model's configuration file."""

    name: Name
    model: Path
    tags: tuple[str, ...] = ("serve",)
    signatures: tuple[str, ...] | None = None
    """Signatures to optimize and judge; all by default."""
    candidates: tuple[CandidateSpec, ...] = ()
    """``backend/precision`` each, or with options of its own; all that there are by default."""
    backends: dict[Annotated[str, AfterValidator(_configurable)], BackendSettings] = {}
    samples: SampleSources
    padding: dict[str, int] = {}
    """Input -> the value that fills samples up to a common width; batches are trimmed to true lengths."""
    vocabulary: dict[str, Path] = {}
    """Input or output (``name`` or ``signature.name``) of ids -> the file of the pieces that they stand for
    (`vocabulary`): reports then show words."""
    calibration: CalibrationSettings = CalibrationSettings()
    islands: IslandSettings = IslandSettings()
    precision_floor: float = Field(0.5, ge=0, le=1)
    """Share of the operations with a weight that must be in a candidate's precision; a candidate below it
    is told apart by name (`results.CandidateResult.label`)."""
    gate: Gate = Gate()
    metrics: dict[Annotated[str, AfterValidator(_metric_name)], Annotated[str, AfterValidator(_function)]] = {}
    """Metric, or ``signature.metric`` -> the function of outputs and labels that computes it (docs/metrics.md)."""
    labels: str | dict[str, str] | None = None
    """File of the validation samples' labels, or one for each signature."""
    profiles: tuple[Profile, ...] = ()
    """Shapes that TensorRT engines must serve; those of the validation samples and their corners always."""
    benchmark: BenchmarkSettings = BenchmarkSettings()
    max_batch_size: int = Field(32, ge=1)
    """Largest batch that parity is judged at and that servers are told of."""
    accept_estimates: bool = False
    """Publish candidates that only a GPU can run on what was estimated without one: for a machine that
    has none, and servers that do."""
    objective: str = "latency_p50@1"
    targets: tuple[Target, ...] = (Target(kind="tf-serving", version="2.14"),)
    serving: Path = Path("serving")
    keep: int | None = Field(None, ge=1)
    """Published versions to keep; all by default. What a label or ``versions.serve.specific`` names is kept besides."""
    versions: VersionSettings = VersionSettings()
    storage: str = Field("pvc://models/serving", pattern="^[a-z0-9]+://[^ ]+$")
    """Where a Kubernetes cluster finds a copy of the folder ``serving``, as KServe's storageUri."""
    limits: Limits = Limits()

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, text: str) -> str:
        metric, _, batch = text.partition("@")
        if metric not in METRICS or not re.fullmatch("[1-9][0-9]{0,5}", batch):
            raise ValueError(f"an objective is METRIC@BATCH with METRIC one of {', '.join(METRICS)}"
                             f"{did_you_mean(metric, METRICS)}")
        return text

    @field_validator("signatures", "targets")
    @classmethod
    def _not_empty(cls, given: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if given is not None and not given:
            raise ValueError("name at least one, or leave it out")
        return given

    @field_validator("gate")
    @classmethod
    def _known_precisions(cls, gate: Gate) -> Gate:
        known = sorted({p for _, _, ps in BACKENDS.values() for p in ps} | set(PRECISION_BOUNDS))
        for precision in gate.precisions:
            if precision not in known:
                raise ValueError(f"no precision '{precision}': there are {', '.join(known)}"
                                 f"{did_you_mean(precision, known)}")
        return gate

    @field_validator("candidates")
    @classmethod
    def _told_apart(cls, candidates: tuple[CandidateSpec, ...]) -> tuple[CandidateSpec, ...]:
        names = [candidate.name for candidate in candidates]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two candidates are called {twice}: give one of them a label")
        return candidates

    @model_validator(mode="after")
    def _objective_is_measured(self) -> Config:
        if self.objective_batch not in self.benchmark.batch_sizes:
            raise ValueError(f"objective {self.objective} is not measured: "
                             f"add {self.objective_batch} to benchmark.batch_sizes")
        return self

    def settings_of(self, backend: str) -> BackendSettings:
        """The settings of one backend."""
        return self.backends.get(backend, BackendSettings())

    @property
    def objective_metric(self) -> str:
        return self.objective.partition("@")[0]

    @property
    def objective_batch(self) -> int:
        return int(self.objective.partition("@")[2])
