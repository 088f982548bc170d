"""What this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from trt_pipeline import gpu_memory, interpreter
from trt_pipeline.config.schema import Limits
from trt_pipeline.conversion.onednn import availability as onednn
from trt_pipeline.conversion.tftrt.availability import Availability
from trt_pipeline.engine.availability import TensorRT
from trt_pipeline.environment import cpu_flags, cpu_model, environment
from trt_pipeline.errors import PipelineError
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish import servers
from trt_pipeline.stages import jobs, worker
from trt_pipeline.stages.worker import WorkerFailed

_PURPOSES = {"polygraphy": "configures TensorRT's builder",
             "tensorflow": "converts and runs SavedModels", "tf2onnx": "SavedModel to ONNX",
             "onnx": "reads and writes ONNX", "onnxruntime": "runs ONNX, quantizes to int8",
             "numpy": "arrays", "pydantic": "what workers are told and answer"}


class Finding(Frozen):
    """One line of the examination."""

    what: str
    found: str
    ok: bool
    cure: str = ""


def examine(python: Path | None = None) -> list[Finding]:
    """Look at interpreter, libraries, processor, GPU and disk; imports none of the libraries here.

    Args:
        python: look at this interpreter instead, and at what a backend's workers need there.

    Raises:
        ConfigError: ``python`` is no interpreter.
    """
    if python:
        other = interpreter.examine(python)
        there = other.environment
        # An interpreter for TensorRT alone needs no TensorFlow.
        for_engines = "polygraphy" in there and "tensorflow" not in there
        needed = ("polygraphy",) if for_engines else ("tensorflow",)
        return [_python(there), *_packages(there, f"{python} -m pip", *needed, "numpy", "pydantic"),
                *([] if for_engines else _tf_trt(other.python)), *_tensorrt(other.python)]
    here = environment()
    return [
        _python(here),
        *_packages(here, "pip", "tensorflow", "tf2onnx", "onnx", "onnxruntime"),
        *_tf_trt(None),
        _processor(),
        _tensorflow_int8(),
        Finding(what="memory", found=f"{psutil.virtual_memory().available / 2**30:.0f} of "
                f"{psutil.virtual_memory().total / 2**30:.0f} GB free",
                ok=psutil.virtual_memory().available > 2 * 2**30, cure="conversions of small models need 2 GB"),
        Finding(what="disk", found=f"{shutil.disk_usage('.').free / 2**30:.0f} GB free here",
                ok=shutil.disk_usage(".").free > 2**30, cure="free at least 1 GB"),
        *_gpus(),
        *_tensorrt(None),
    ]


def _python(libraries: dict[str, str]) -> Finding:
    found = libraries["python"]
    return Finding(what="Python", found=found, ok=found.startswith(("3.10.", "3.11.")), cure="use Python 3.10 or 3.11")


def _packages(libraries: dict[str, str], pip: str, *names: str) -> list[Finding]:
    return [Finding(what=name, found=f"{libraries.get(name, 'missing')} ({_PURPOSES[name]})", ok=name in libraries,
                    cure=f"{pip} install {name}") for name in names]


def _asked(job: Callable[..., Any], python: Path | None) -> Any:
    """What ``job`` answers in a worker: TensorFlow aborts when it is asked the wrong thing, TensorRT may not load."""
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        return worker.run(job, {"folder": scratch}, Limits(time_s=120), Path(scratch, "log.txt"), python=python).value


def _tf_trt(python: Path | None) -> list[Finding]:
    """What TF-TRT can do there."""
    try:
        there = Availability.model_validate(_asked(jobs.examine_tf_trt, python))
    except (WorkerFailed, PipelineError) as error:
        return [Finding(what="TF-TRT", found="none", ok=False, cure=str(error))]
    versions = f"TensorFlow {there.tensorflow}" + (f", built for TensorRT {there.linked}" if there.linked else "")
    loaded = f"; loads TensorRT {there.loaded}" if there.loaded else "; finds no TensorRT library"
    return [
        Finding(what="TF-TRT convert", found=f"works here ({versions})" if not there.why_not_convert else versions,
                ok=not there.why_not_convert, cure=there.why_not_convert),
        Finding(what="TF-TRT finalize", found=(there.gpu_name or "no GPU") + (loaded if there.compiled_in else ""),
                ok=not there.why_not_finalize, cure=there.why_not_finalize),
        Finding(what="TF-TRT serve", found=servers.LOADERS["tensorrt-savedmodel"], ok=True)]


def _processor() -> Finding:
    known = {"avx512_vnni": "int8 (VNNI)", "avx_vnni": "int8 (AVX-VNNI)", "amx_int8": "AMX int8",
             "amx_bf16": "AMX bf16", "avx512_bf16": "bf16 (AVX-512)"}
    flags = cpu_flags()
    has = [label for flag, label in known.items() if flag in flags]
    units = ", ".join(has) or "no int8 units"
    return Finding(what="processor", found=f"{cpu_model()}, {os.cpu_count()} cores; {units}",
                   ok=any("int8" in label for label in has), cure="int8 gains little on this processor")


def _tensorflow_int8() -> Finding:
    why_not = onednn.why_not()
    return Finding(what="tensorflow/int8", found="oneDNN's operations, in TensorFlow itself" if not why_not else "none",
                   ok=not why_not, cure=f"{why_not}: onnxruntime/int8 works without")


def _gpus() -> list[Finding]:
    """The GPUs and, where there are any, whether a process already holds their memory."""
    found = gpu_memory.gpus()
    if not found:
        return [Finding(what="GPU", found="none" if found is None else "none is visible", ok=False,
                        cure="everything but building TensorRT engines works without one")]
    free = all(2 * gpu.free > gpu.total for gpu in found)
    return [Finding(what="GPU", found=f"{', '.join(gpu.name for gpu in found)}; driver {gpu_memory.driver()}", ok=True),
            Finding(what="GPU memory", found="; ".join(map(str, found)), ok=free,
                    cure="a second process would run out of it: stop the one that holds it, or limit it, as by "
                         "--per_process_gpu_memory_fraction of TensorFlow Serving")]


def _tensorrt(python: Path | None) -> list[Finding]:
    """What TensorRT itself can do there."""
    try:
        there = TensorRT.model_validate(_asked(jobs.examine_tensorrt, python))
    except (WorkerFailed, PipelineError) as error:
        return [Finding(what="TensorRT", found="none", ok=False, cure=str(error))]
    gpu = f"{there.gpu} ({there.compute_capability}), driver {there.driver}" if there.gpu else "no GPU"
    return [Finding(what="TensorRT", found=f"{there.version or 'none'}; {gpu}", ok=not there.why_not_build,
                    cure=there.why_not_build)]
