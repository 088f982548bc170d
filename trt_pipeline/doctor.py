"""What this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil

from trt_pipeline.frozen import Frozen
from trt_pipeline.stages.cache import cpu_model, version


class Finding(Frozen):
    """One line of the examination."""

    what: str
    found: str
    ok: bool
    cure: str = ""


def examine() -> list[Finding]:
    """Look at interpreter, libraries, processor, GPU and disk; imports none of the libraries."""
    python = platform.python_version()
    return [
        Finding(what="Python", found=python, ok=python.startswith(("3.10.", "3.11.")), cure="use Python 3.10 or 3.11"),
        *(_package(*line) for line in (
            ("tensorflow", "converts and runs SavedModels"), ("tf2onnx", "SavedModel to ONNX"),
            ("onnx", "reads and writes ONNX"), ("onnxruntime", "runs ONNX, quantizes to int8"))),
        _tensorflow_build(),
        _processor(),
        Finding(what="memory", found=f"{psutil.virtual_memory().available / 2**30:.0f} of "
                f"{psutil.virtual_memory().total / 2**30:.0f} GB free",
                ok=psutil.virtual_memory().available > 2 * 2**30, cure="conversions of small models need 2 GB"),
        Finding(what="disk", found=f"{shutil.disk_usage('.').free / 2**30:.0f} GB free here",
                ok=shutil.disk_usage(".").free > 2**30, cure="free at least 1 GB"),
        _gpu(),
        _tensorrt(),
    ]


def _package(name: str, purpose: str) -> Finding:
    found = version(name)
    return Finding(what=name, found=f"{found or 'missing'} ({purpose})", ok=bool(found), cure=f"pip install {name}")


def _tensorflow_build() -> Finding:
    found = version("tensorflow")
    major_minor = tuple(int(part) for part in found.split(".")[:2]) if found else (0, 0)
    has = (2, 14) <= major_minor <= (2, 17)
    return Finding(what="TF-TRT", found=f"in TensorFlow {found}" if has else "not compiled in", ok=has,
                   cure="TensorFlow 2.14 to 2.17 has it (the tensorflow wheel)")


def _processor() -> Finding:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    known = {"avx512_vnni": "int8 (VNNI)", "avx_vnni": "int8 (AVX-VNNI)", "amx_int8": "AMX int8",
             "amx_bf16": "AMX bf16", "avx512_bf16": "bf16 (AVX-512)"}
    has = [label for flag, label in known.items() if flag in flags.split()]
    units = ", ".join(has) or "no int8 units"
    return Finding(what="processor", found=f"{cpu_model()}, {os.cpu_count()} cores; {units}",
                   ok=any("int8" in label for label in has), cure="int8 gains little on this processor")


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    names = ""
    if tool:
        query = [tool, "--query-gpu=name,memory.free,driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        names = answer.stdout.strip().replace("\n", "; ") if answer.returncode == 0 else ""
    return Finding(what="GPU", found=names or "none", ok=bool(names),
                   cure="everything but building TensorRT engines works without one")


def _tensorrt() -> Finding:
    package, library = version("tensorrt"), ctypes.util.find_library("nvinfer")
    found = f"package {package}" if package else library or "none"
    return Finding(what="TensorRT", found=found, ok=bool(package or library),
                   cure="pip install 'trt-pipeline[tensorrt]' on a machine with a GPU")
