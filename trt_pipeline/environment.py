"""What of this machine and this interpreter results depend on; nothing but the standard library is imported.

Run as a module it prints the same as JSON: so one interpreter asks another (`interpreter.examine`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

_LIBRARIES = ("tensorflow", "tensorflow-cpu", "tf2onnx", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "protobuf",
              "pydantic", "tensorrt", "tensorrt-cu11", "tensorrt-cu12", "tensorrt-cu12-bindings", "tensorrt-cu13",
              "tensorrt-cu13-bindings", "polygraphy")
# Settings of the libraries that change numbers or speed.
_VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS")
_DEVICES = "CUDA_VISIBLE_DEVICES"


def environment() -> dict[str, str]:
    """Interpreter, libraries, processor, cores."""
    return {"python": platform.python_version(), "machine": platform.machine(), "cpu": cpu_model(),
            "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
            "gpu": gpu_models(), **{name: found for name in _LIBRARIES if (found := version(name))},
            **{name: os.environ[name] for name in _VARIABLES if name in os.environ}, **_visible_gpus()}


def _visible_gpus() -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES; of equal GPUs only how many, for which of them a cluster lends may change."""
    devices = os.environ.get(_DEVICES)
    if devices is None:
        return {}
    models = set(gpu_models().split("; "))
    return {_DEVICES: devices if len(models) > 1 or not devices else f"{len(devices.split(','))} of equal ones"}


def version(package: str) -> str:
    """Installed version of ``package`` without importing it; empty where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def gpu_models() -> str:
    """Names of the NVIDIA GPUs, from the driver's files; empty where there is none."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = (line for file in files for line in file.read_text().splitlines() if line.startswith("Model"))
    return "; ".join(line.partition(":")[2].strip() for line in lines)


def cpu_model() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor says that it can do, as Linux names it; empty where it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines
                           if line.startswith(("flags", "Features"))), ()))


if __name__ == "__main__":
    print(json.dumps(environment()))
