"""Results of stages, kept under a key of everything that went into them.

The one mechanism behind resuming a killed run and repeating a finished one: an entry appears by a
rename, complete or not at all, and whoever has the same key has the same result.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.frozen import Frozen

_LIBRARIES = ("tensorflow", "tf2onnx", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "protobuf", "tensorrt")
# Settings of the libraries that change numbers or speed.
_VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


class Entry(Frozen):
    """One stage's kept result."""

    folder: Path
    value: Any
    seconds: float
    peak_memory_mb: float

    @property
    def files(self) -> Path:
        """Folder of the files that the stage made."""
        return self.folder / "files"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


class StageCache:
    """A folder of entries; used by one run at a time (`stages.lock`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob("staging-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def find(self, stage: str, key: str) -> Entry | None:
        """The entry of ``stage`` under ``key``, or None."""
        folder = self._folder(stage, key)
        try:
            document = json.loads((folder / "result.json").read_text())
            # Files that were changed since are not what the kept results speak of.
            if document.pop("files_digest") != digest.of_folder(folder / "files"):
                return None
            return Entry(folder=folder, **document)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None

    def stage(self) -> Path:
        """A fresh folder to work in; `keep` makes it an entry."""
        return Path(tempfile.mkdtemp(prefix="staging-", dir=self.root))

    def keep(self, stage: str, key: str, staging: Path, value: Any, seconds: float, peak_memory_mb: float) -> Entry:
        """Turn ``staging`` into the entry of ``key``, in one rename."""
        document = {"value": value, "seconds": seconds, "peak_memory_mb": peak_memory_mb}
        (staging / "result.json").write_text(json.dumps(
            document | {"files_digest": digest.of_folder(staging / "files")}))
        folder = self._folder(stage, key)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(staging, folder)
        return Entry(folder=folder, **document)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / f"{stage}-{key[:24]}"


def key_of(parts: dict[str, Any]) -> str:
    """The key of ``parts`` on this machine with these libraries and this version of the pipeline."""
    return digest.of_value({"parts": parts, "pipeline": digest.of_this_package(), "environment": environment()})


def environment() -> dict[str, str]:
    """What of the machine results depend on: interpreter, libraries, processor, cores."""
    return {"python": platform.python_version(), "machine": platform.machine(), "cpu": cpu_model(),
            "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
            "gpu": gpu_models(), **{name: found for name in _LIBRARIES if (found := version(name))},
            **{name: os.environ[name] for name in _VARIABLES if name in os.environ}}


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
