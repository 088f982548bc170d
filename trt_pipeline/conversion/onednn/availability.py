"""Whether this machine and this TensorFlow can run oneDNN's quantized operations."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from trt_pipeline.environment import cpu_flags, version

_OLDEST = (2, 14)


def why_not(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Why int8 is not to be had here; empty where it is. TensorFlow is not imported.

    Without VNNI the operations are there too, but add 16-bit numbers that saturate, and are slower than fp32.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"TensorFlow has oneDNN's int8 operations on x86-64 Linux only; this is {sys.platform} on " \
               f"{platform.machine()}"
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1").lower() in ("0", "false"):
        return "oneDNN is off: TF_ENABLE_ONEDNN_OPTS is 0"
    if not any("vnni" in flag for flag in cpu_flags(cpuinfo)):
        return "this processor has no VNNI (int8 dot products)"
    if importlib.util.find_spec("tensorflow") is None:
        return "TensorFlow is not installed"
    found = next((v for v in map(version, ("tensorflow", "tensorflow-cpu", "tensorflow-intel")) if v), "")
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if numbers and numbers < _OLDEST:
        return f"TensorFlow {found} is older than 2.14"
    return ""
