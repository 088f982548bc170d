"""What of TensorRT this interpreter and machine have. Asking never ends the process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from typing import Any

from trt_pipeline.engine import gpu
from trt_pipeline.errors import MissingError, one_line
from trt_pipeline.frozen import Frozen

_ELSEWHERE = "or name an interpreter that has it under backends.tensorrt.python"


class TensorRT(Frozen):
    """What can be done here; texts are empty, and sizes 0, where there is none."""

    version: str = ""
    """TensorRT's, such as 8.5.3.1."""
    polygraphy: str = ""
    gpu: str = ""
    compute_capability: str = ""
    """As in ``"8.6"``."""
    total_bytes: int = 0
    free_bytes: int = 0
    driver: str = ""
    """The GPU driver's version."""
    cuda: str = ""
    """The newest CUDA version that the driver can run."""
    why_not_build: str = ""
    """What is missing to build and run engines, and how to get it; empty where nothing is."""


def examine() -> TensorRT:
    """Ask this interpreter for its libraries, and the driver for its GPU."""
    version, why_no_library = _library()
    polygraphy = _version("polygraphy")
    found = gpu.find()
    missing = [why_no_library] if why_no_library else []
    if not polygraphy:
        missing.append(f"{sys.executable} has no polygraphy: {sys.executable} -m pip install polygraphy")
    if not found:
        missing.append("CUDA sees no NVIDIA GPU here: finalize on the machine that will serve the model")
    known = {} if not found else {
        "gpu": found.name, "compute_capability": found.compute_capability, "total_bytes": found.total_bytes,
        "free_bytes": found.free_bytes, "driver": found.driver, "cuda": found.cuda}
    return TensorRT(version=version, polygraphy=polygraphy, why_not_build="; ".join(missing), **known)


def load() -> Any:
    """The module `tensorrt`.

    Raises:
        MissingError: it is not installed, or not all that it loads is.
    """
    try:
        import tensorrt
    except Exception as error:  # whatever a library that does not fit may raise
        raise MissingError(_why_not(error)) from None
    return tensorrt


def _library() -> tuple[str, str]:
    """TensorRT's version, or empty and why."""
    try:
        return str(load().__version__), ""
    except MissingError as error:
        return "", str(error)


def _why_not(error: Exception) -> str:
    if importlib.util.find_spec("tensorrt") is None:
        return (f"{sys.executable} has no TensorRT: pip install 'trt-pipeline[tensorrt]' under Python 3.10 for 8.5, "
                f"later versions from NVIDIA's index, {_ELSEWHERE}")
    return (f"{sys.executable} cannot load TensorRT {_version('tensorrt')} ({one_line(error)}): install the CUDA "
            f"libraries that it was built for, as 'trt-pipeline[tensorrt]' does, {_ELSEWHERE}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
