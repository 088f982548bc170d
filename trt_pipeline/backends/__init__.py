"""The backends, by name. Each loads its library when it is first used."""

from __future__ import annotations

import importlib

from trt_pipeline.backends.base import Backend
from trt_pipeline.errors import ConfigError
from trt_pipeline.suggest import did_you_mean

# name -> (module, class, precisions); the precisions stand here too so that a config can be checked
# without importing a backend. `tests/backends/test_registry.py` holds both to each other.
BACKENDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "original": ("original", "Original", ("native",)),
    "tensorflow": ("tensorflow", "TensorFlow", ("fp32", "bf16", "int8")),
    "onnxruntime": ("onnxruntime", "OnnxRuntime", ("fp32", "fp16", "int8")),
    "tf-trt": ("tf_trt", "TfTrt", ("fp32", "fp16", "int8")),
    "tensorrt": ("tensorrt", "TensorRT", ("fp32", "tf32", "fp16", "bf16", "int8")),
}


def backend(name: str) -> Backend:
    """The backend called ``name``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in BACKENDS:
        raise ConfigError(f"no backend '{name}': there are {', '.join(BACKENDS)}{did_you_mean(name, BACKENDS)}")
    module, class_name, _ = BACKENDS[name]
    made: Backend = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)()
    return made
