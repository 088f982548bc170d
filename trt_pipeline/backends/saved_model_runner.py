"""Run any SavedModel through TensorFlow: the runner of every backend that makes SavedModels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_pipeline.backends.base import Array, Runner, as_array
from trt_pipeline.model.contract import Contract


class SavedModelRunner(Runner):
    """Answers from `tf.saved_model.load(folder).signatures`."""

    def __init__(self, contract: Contract, folder: Path, threads: int | None = None) -> None:
        super().__init__(contract)
        self.folder, self.threads = folder, threads
        self._loaded: Any = None

    def activate_impl(self) -> None:
        import tensorflow as tf

        if self.threads:
            tf.config.threading.set_intra_op_parallelism_threads(self.threads)
        self._loaded = tf.saved_model.load(str(self.folder), tags=list(self.contract.tags))

    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import tensorflow as tf

        tensors = {name: tf.constant(value) for name, value in feeds.items()}
        outputs = self.function(signature)(**tensors)
        # In the contract's order: TensorFlow 2.21 has them in any.
        return {name: as_array(outputs[name]) for name in sorted(outputs)}

    def function(self, signature: str) -> Any:
        """The loaded `ConcreteFunction` of ``signature``."""
        return self._loaded.signatures[signature]

    def deactivate_impl(self) -> None:
        self._loaded = None
