"""The backend ``onnxruntime`` of Triton on a CPU, in Python: what the image's C++ backend of that name serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import declared
import numpy as np
import onnxruntime
import row_batches
import triton_python_backend_utils as triton

_DTYPES = {"float": "float32", "double": "float64"}


class TritonPythonModel:
    """One version of a model, loaded."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the version; Triton shows what is raised, and goes on serving the version before."""
        config = json.loads(arguments["model_config"])
        file = config["default_model_filename"] or "model.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # As of Triton's own; by default one core, for the clients are on this machine as well.
        threads = config.get("parameters", {}).get("intra_op_thread_count", {"string_value": "1"})
        options.intra_op_num_threads = int(threads["string_value"])
        self._session = onnxruntime.InferenceSession(
            str(Path(arguments["model_repository"], arguments["model_version"], file)), options,
            providers=["CPUExecutionProvider"])
        inputs = {tensor.name: _of(tensor) for tensor in self._session.get_inputs()}
        outputs = {tensor.name: _of(tensor) for tensor in self._session.get_outputs()}
        if wrong := declared.differences(config, inputs, outputs):
            raise triton.TritonModelException("; ".join(wrong))
        self._inputs, self._outputs = list(inputs), [output["name"] for output in config["output"]]
        self._batched = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request."""
        return row_batches.answer(requests, self._inputs, self._run, self._batched)

    def _run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        answered = self._session.run(self._outputs, {name: _decoded(value) for name, value in feeds.items()})
        return {name: _encoded(value) for name, value in zip(self._outputs, answered, strict=True)}


def _decoded(value: Any) -> Any:
    """ONNX Runtime's strings are text; of bytes it would take what Python prints of them."""
    return value if value.dtype != object else _each(lambda text: text.decode(), value)


def _encoded(value: Any) -> Any:
    return value if value.dtype != object else _each(str.encode, value)


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    return np.array([*map(change, value.ravel()), None], object)[:-1].reshape(value.shape)


def _of(tensor: Any) -> tuple[str, tuple[int | None, ...]]:
    dtype = tensor.type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(dtype, dtype), tuple(size if isinstance(size, int) else None for size in tensor.shape)
