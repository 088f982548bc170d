"""What ``backends.tensorrt.options`` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from trt_pipeline import frozen, options
from trt_pipeline.engine import generation
from trt_pipeline.frozen import Frozen

FIRST_COMPATIBLE = (8, 6)
"""The first version with engines for other GPUs and later versions, and with optimization levels."""
_FILE = "options.json"


def _version(text: str) -> str:
    generation.parse_version(text)
    return text


class Options(Frozen):
    """Choices that a conversion with TensorRT has, and the building of its engines."""

    tensorrt: Annotated[str, AfterValidator(_version)] | None = None
    """The version to convert for, such as "8.5" or "11.4"; by default the one that the backend's interpreter
    has, or where it has none the one that TensorFlow Serving can load."""
    workspace_gb: float | None = Field(None, gt=0)
    """GPU memory that a layer may use for scratch, in GiB; by default all that is free when the engine is built."""
    builder_optimization_level: int | None = Field(None, ge=0, le=5)
    """How long to search for faster engines (8.6 and later); TensorRT's default is 3."""
    hardware_compatible: bool = False
    """Whether the engine is to run on every GPU since Ampere, at some cost of speed (8.6 and later)."""
    version_compatible: bool = False
    """Whether the plan is to run under later versions of TensorRT too, at some cost of speed (8.6 and later)."""
    cuda_graphs: bool = False
    """Whether the pipeline's own runner records each shape as a CUDA graph, and replays it."""
    graft: Literal["auto", "never"] = "auto"
    """Whether to put the engine into a SavedModel too, where TensorFlow can have one of its inputs and outputs."""

    @model_validator(mode="after")
    def _in_time(self) -> Options:
        late = [name for name in ("builder_optimization_level", "hardware_compatible", "version_compatible")
                if getattr(self, name) not in (None, False)]
        if late and self.tensorrt and generation.parse_version(self.tensorrt) < FIRST_COMPATIBLE:
            raise ValueError(f"{late[0]} needs TensorRT 8.6 or later, and this converts for {self.tensorrt}")
        return self


def parse(given: dict[str, Any]) -> Options:
    """The options in ``given``.

    Raises:
        ConfigError: one is unknown or has no such value.
    """
    return options.parse(Options, given, "tensorrt")


def file(folder: Path) -> Path:
    """Where the options of the candidate in ``folder`` lie."""
    return folder / _FILE


def write(chosen: Options, folder: Path) -> None:
    """Write ``chosen`` into ``folder``, for the machine that builds and runs the engines."""
    file(folder).write_text(chosen.model_dump_json(indent=2) + "\n")


def read(folder: Path) -> Options:
    """The options in ``folder``.

    Raises:
        InputError: there are none, or another version wrote them.
    """
    return frozen.read(Options, file(folder), outdated="convert the model again",
                       absent=f"{folder} has no {_FILE}: it is no candidate of the backend tensorrt")
