"""On PYTHONPATH, makes a worker believe that it has a GPU: TF-TRT's ops get the shim's CPU kernels.

Python imports this at its start. What it changes is changed when the pipeline itself imports it: the
op library is loaded with TensorFlow, and TF-TRT's availability is told as on a machine that has all.
Everything else that runs is the pipeline's own code.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


def _with_shim(tensorflow: Any) -> None:
    tensorflow.load_op_library(os.environ["TRT_SHIM_LIBRARY"])


def _with_gpu(availability: Any) -> None:
    found = availability.examine

    def examine() -> Any:
        return found().model_copy(update={"gpus": 1, "gpu_name": "pretended", "loaded": "8.4.3-shim"})

    availability.examine = examine


_CHANGES = {"tensorflow": _with_shim, "trt_pipeline.conversion.tftrt.availability": _with_gpu}


class _Changing(importlib.abc.MetaPathFinder):
    """Imports what it knows as Python does, and changes it once it is there."""

    def find_spec(self, name: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        change = _CHANGES.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path) if change else None
        if spec is None or spec.loader is None or change is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Changing())
