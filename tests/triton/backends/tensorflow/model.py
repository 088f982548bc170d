"""The backend ``tensorflow`` of Triton on a CPU, in Python: what the image's C++ backend of that name serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import declared
import numpy as np
import row_batches
import tensorflow as tf
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One version of a model, loaded."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the version; Triton shows what is raised, and goes on serving the version before."""
        config = json.loads(arguments["model_config"])
        folder = config["default_model_filename"] or "model.savedmodel"
        given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        # Kept: what its functions read is gone with it.
        self._model = tf.saved_model.load(
            str(Path(arguments["model_repository"], arguments["model_version"], folder)),
            tags=[given.get("TF_GRAPH_TAG", "serve")])
        signature = given.get("TF_SIGNATURE_DEF", "serving_default")
        if signature not in self._model.signatures:
            raise triton.TritonModelException(
                f"no signature '{signature}': there are {', '.join(self._model.signatures)}")
        self._function = self._model.signatures[signature]
        inputs = {name: _of(spec) for name, spec in self._function.structured_input_signature[1].items()}
        outputs = {name: _of(spec) for name, spec in self._function.structured_outputs.items()}
        if wrong := declared.differences(config, inputs, outputs):
            raise triton.TritonModelException("; ".join(wrong))
        self._inputs, self._outputs = list(inputs), [output["name"] for output in config["output"]]
        self._batched = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request."""
        return row_batches.answer(requests, self._inputs, self._run, self._batched)

    def _run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        answered = self._function(**{name: tf.constant(value) for name, value in feeds.items()})
        return {name: np.asarray(answered[name].numpy()) for name in self._outputs}


def _of(spec: Any) -> tuple[str, tuple[int | None, ...] | None]:
    return spec.dtype.name, None if spec.shape.rank is None else tuple(spec.shape.as_list())
