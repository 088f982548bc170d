"""Where a model of TensorFlow's is run in this process: settled before TensorFlow looks for GPUs."""

from __future__ import annotations

import os
from pathlib import Path

from trt_pipeline import gpu_memory
from trt_pipeline.errors import ConfigError, MissingError
from trt_pipeline.suggest import did_you_mean

_DEVICES = ("cpu", "gpu")


def choose(device: str | None, model: Path) -> None:
    """Set this process up to run ``model`` on ``device``; None takes the GPU where there is one.

    On a GPU TensorFlow then takes the memory that it needs, and not all there is.

    Raises:
        ConfigError: ``device`` is neither cpu nor gpu.
        MissingError: there is no GPU, or too little of its memory is free.
    """
    if device not in (None, *_DEVICES):
        raise ConfigError(f"--device '{device}': write cpu or gpu{did_you_mean(device, _DEVICES)}")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return
    grow()
    if device == "gpu" and not gpu_memory.gpus():
        raise MissingError("--device gpu: no NVIDIA GPU can be seen here: install its driver, look at "
                           "CUDA_VISIBLE_DEVICES, or use --device cpu")
    gpu_memory.check(files_size(model), str(model), "use --device cpu")


def grow() -> None:
    """Have TensorFlow take of a GPU's memory what it needs, and leave the rest to others."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def files_size(folder: Path) -> int:
    """Bytes of all files in ``folder``: the least that a model's weights take."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
