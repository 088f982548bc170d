"""Whether the GPU has room for the models that are to be served."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline import gpu_memory
from trt_pipeline.device import files_size
from trt_pipeline.publish import served
from trt_pipeline.serve.aspired import aspired
from trt_pipeline.serve.models_config import ServerConfig


def check_room(config: ServerConfig) -> None:
    """Refuse to load what the GPU has no room for; nothing is refused where there is no GPU.

    A version takes what was measured when it was published, or at least what its files do.

    Raises:
        MissingError: names who holds the memory, and the fraction to leave it.
    """
    folders = [folder for model in config.models for folder in (aspired(model) or {}).values()]
    gpu_memory.check(sum(map(_need, folders)), f"{len(folders)} model version{'s' * (len(folders) != 1)}",
                     "serve fewer, or on the CPU with CUDA_VISIBLE_DEVICES=-1")


def _need(folder: Path) -> int:
    measured = served.read_version(folder.parent, int(folder.name)).memory.gpu
    return max(files_size(folder), int((measured or 0) * gpu_memory.MB) - gpu_memory.OVERHEAD)
