"""What an engine was built on, and whether it fits where it is loaded."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from trt_pipeline.engine import generation
from trt_pipeline.engine.availability import TensorRT
from trt_pipeline.engine.recipe import BUILT_ON
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen

_AGAIN = "build it again here: trt-pipeline finalize CANDIDATE"
# A version-compatible plan runs under the same major version from its own on, and under this next one.
_RUNS_NEXT = {8: 10, 10: 11}
_AMPERE = (8, 0)


class BuiltOn(Frozen):
    """The machine that an engine was built on; lies beside the engine."""

    gpu: str
    compute_capability: str
    """As in ``"8.6"``."""
    tensorrt: str
    cuda: str
    """The CUDA runtime's version."""
    driver: str
    hardware_compatible: bool = False
    version_compatible: bool = False

    @property
    def facts(self) -> dict[str, str]:
        """As `Artifact.built` has them."""
        known = {"gpu": self.gpu, "compute capability": self.compute_capability, "tensorrt": self.tensorrt,
                 "cuda": self.cuda, "driver": self.driver}
        return known | {name.replace("_", " "): "yes" for name in ("hardware_compatible", "version_compatible")
                        if getattr(self, name)}


def differences(built_on: BuiltOn, here: TensorRT) -> str:
    """Why an engine built there does not run here, naming both sides; empty where it does."""
    found: list[str] = []
    if not here.version:
        return f"the engine was built with TensorRT {built_on.tensorrt}, and {here.why_not_build}"
    if not _same_version(built_on, here):
        found.append(f"it was built with TensorRT {built_on.tensorrt}, and this is {here.version}")
    if not here.gpu:
        found.append(f"it was built for {built_on.gpu}, and CUDA sees no NVIDIA GPU here")
    elif not _same_architecture(built_on, here):
        found.append(f"it was built for {built_on.gpu} (compute capability {built_on.compute_capability}), and this is "
                     f"{here.gpu} ({here.compute_capability})")
    if here.cuda and _numbers(here.cuda)[0] < _numbers(built_on.cuda)[0]:
        found.append(f"it needs CUDA {built_on.cuda}, and the driver {here.driver} ends at {here.cuda}")
    return f"the engine does not fit this machine: {'; '.join(found)}; {_AGAIN}" if found else ""


def remark(built_on: BuiltOn, here: TensorRT) -> str:
    """What may make an engine that fits slower here than where it was built; empty where nothing does."""
    if not here.gpu or built_on.gpu == here.gpu:
        return ""
    return f"the engine's kernels were chosen on {built_on.gpu}, and this is {here.gpu}: {_AGAIN} for its full speed"


def write(built_on: BuiltOn, folder: Path) -> None:
    """Write ``built_on`` into ``folder``, beside the engine."""
    (folder / BUILT_ON).write_text(built_on.model_dump_json(indent=2) + "\n")


def read(folder: Path) -> BuiltOn | None:
    """What the engine in ``folder`` was built on; None where it does not say.

    Raises:
        InputError: another version wrote it.
    """
    try:
        return BuiltOn.model_validate_json((folder / BUILT_ON).read_text())
    except OSError:
        return None
    except ValidationError:
        raise InputError(f"{folder / BUILT_ON} was written by another version: {_AGAIN}") from None


def _same_version(built_on: BuiltOn, here: TensorRT) -> bool:
    built, running = generation.parse_version(built_on.tensorrt), generation.parse_version(here.version)
    if not built_on.version_compatible:
        return built[:3] == running[:3]
    return (running[0] == built[0] and running >= built) or running[0] == _RUNS_NEXT.get(built[0])


def _same_architecture(built_on: BuiltOn, here: TensorRT) -> bool:
    if built_on.hardware_compatible:
        return _numbers(here.compute_capability) >= _AMPERE
    return built_on.compute_capability == here.compute_capability


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
