"""Publish the fastest version of a TensorFlow SavedModel that still says what the original said.

    import trt_pipeline as tp
    run = tp.optimize("configs/enko.yaml")
    print(run.best().name)

Importing this package imports no TensorFlow, ONNX Runtime or TensorRT: each loads when first used.
"""

from trt_pipeline.api import benchmark, calibrate, convert, finalize, inspect, optimize, sweep, validate, verify
from trt_pipeline.cluster.settings import Cluster
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.config.schema import Config, Limits, SampleSources, Target
from trt_pipeline.errors import (
    ConfigError,
    GateError,
    InputError,
    MissingError,
    ModelChangedError,
    ModelError,
    OutputError,
    PipelineError,
    RequestError,
    SamplesError,
    UnreachableError,
    Unsupported,
)
from trt_pipeline.figures import Bound
from trt_pipeline.parity.tolerance import Close, Gate, Match, MetricBound, OutputGate, TopK
from trt_pipeline.results import CandidateResult, Publication
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import Extent
from trt_pipeline.served.verify import ServedResult

__version__ = "0.1.0"

__all__ = [
    "Bound", "CandidateResult", "CandidateSpec", "Close", "Cluster", "Config", "ConfigError", "Extent", "Gate",
    "GateError", "InputError", "Limits", "Match", "MetricBound", "MissingError", "ModelChangedError", "ModelError",
    "OutputError", "OutputGate", "PipelineError", "Publication", "RequestError", "RunResult", "SampleSources",
    "SamplesError", "ServedResult", "Target", "TopK", "UnreachableError", "Unsupported",
    "benchmark", "calibrate", "convert", "finalize", "inspect", "optimize", "sweep", "validate", "verify",
]
