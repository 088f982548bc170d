"""Answer requests from an exported Estimator at once: the graph is loaded once, not built at every call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trt_pipeline.backends.base import Array, as_array
from trt_pipeline.errors import InputError, ModelError, one_line
from trt_pipeline.estimators import examples as tf_example
from trt_pipeline.expressions import as_dtype
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    SignatureContract,
    TensorContract,
)
from trt_pipeline.publish import versions
from trt_pipeline.suggest import did_you_mean


class Predictor:
    """A SavedModel that answers in this process; what `export` wrote, or what the pipeline published of it.

    It is loaded when it is made, answers any number of threads at once, and is a context manager.

        with Predictor("models/iris") as predictor:
            predictor({"SepalLength": [5.1], "SepalWidth": [3.3], "PetalLength": [1.7], "PetalWidth": [0.5]})
            predictor.classify([{"SepalLength": 5.1, "SepalWidth": 3.3, "PetalLength": 1.7, "PetalWidth": 0.5}])

    Args:
        folder: the SavedModel, or a folder of versions, of which it takes the newest.
        signature: the one that calls ask.

    Raises:
        ModelError: there is no SavedModel, it is damaged, or TensorFlow cannot load it.
        ConfigError: it has no such signature.
    """

    def __init__(self, folder: str | os.PathLike[str], *, signature: str = "predict") -> None:
        import tensorflow as tf

        self.folder = _newest(Path(folder))
        self.contract = saved_model.read_contract(self.folder)
        self.signature = self.contract.signature(signature)
        try:
            self._loaded: Any = tf.saved_model.load(str(self.folder), tags=list(self.contract.tags))
        except (ValueError, OSError, tf.errors.OpError) as error:
            raise ModelError(f"{self.folder} cannot be loaded: {one_line(error)}") from error

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Array]:
        """All predictions for a batch of N.

        Args:
            features: feature name -> array or nested lists (N, ...) of the signature's shape and of a dtype that
                loses nothing but float precision. Where a row may be one value, (N,) will do for (N, 1).

        Returns:
            Output name -> array (N, ...), in the signature's dtypes; strings are bytes objects.

        Raises:
            InputError: a feature is missing, unknown or of the wrong type or shape, batches differ, the model
                refuses the values, or the predictor is closed.
        """
        return self._ask(self.signature, self._feeds(features))

    def classify(self, examples: Sequence[bytes | Mapping[str, Any]]) -> dict[str, Array]:
        """``classes`` string (N, C) and ``scores`` float32 (N, C), those of them that the model has.

        Args:
            examples: N of them, each a serialized tf.Example or feature name -> value or values.

        Raises:
            InputError: as `__call__`, or the model has no signature with the method classify.
        """
        return self._ask_examples(CLASSIFY_METHOD, examples)

    def regress(self, examples: Sequence[bytes | Mapping[str, Any]]) -> dict[str, Array]:
        """``outputs`` float32 (N, ...); see `classify`.

        Raises:
            InputError: as `__call__`, or the model has no signature with the method regress.
        """
        return self._ask_examples(REGRESS_METHOD, examples)

    def close(self) -> None:
        """Let go of the model; a second time does nothing."""
        self._loaded = None

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _feeds(self, features: Mapping[str, Any]) -> dict[str, Array]:
        known = self.signature.inputs
        for name in features:
            if name not in known:
                raise InputError(f"there is no feature '{name}': signature {self.signature.name} takes "
                                 f"{', '.join(known)}{did_you_mean(name, known)}")
        left_out = self.signature.left_out(features)
        if missing := [name for name in known if name not in features and name not in left_out]:
            raise InputError(f"feature '{missing[0]}' is missing: signature {self.signature.name} takes "
                             f"{', '.join(known)}")
        feeds = {name: _fitting(name, features[name], known[name]) for name in known if name in features}
        sizes = {name: len(array) for name, array in feeds.items() if known[name].batched}
        if len(set(sizes.values())) > 1:
            raise InputError("features have different numbers of rows: "
                             + ", ".join(f"{name} {size}" for name, size in sizes.items()))
        return feeds | left_out

    def _ask_examples(self, method: str, examples: Sequence[bytes | Mapping[str, Any]]) -> dict[str, Array]:
        named = [name for name, one in self.contract.signatures.items() if one.method_name == method]
        if not named:
            methods = ", ".join(f"{one.name} ({one.method_name})" for one in self.contract.signatures.values())
            raise InputError(f"{self.folder} has no signature with the method {method}: it has {methods}")
        signature = self.contract.signatures[DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in named else named[0]]
        serialized = [one if isinstance(one, bytes) else tf_example.serialize(one, self.signature.inputs)
                      for one in examples]
        return self._ask(signature, {next(iter(signature.inputs)): np.array(serialized, object)})

    def _ask(self, signature: SignatureContract, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import tensorflow as tf

        loaded = self._loaded
        if loaded is None:
            raise InputError(f"the predictor of {self.folder} is closed: make another one")
        given = {name: tf.constant(value, signature.inputs[name].dtype) for name, value in feeds.items()}
        try:
            outputs = loaded.signatures[signature.name](**given)
        except tf.errors.InvalidArgumentError as error:
            raise InputError(f"signature {signature.name} refuses it: {one_line(error)}") from error
        return {name: as_array(outputs[name]) for name in signature.outputs}


def _newest(folder: Path) -> Path:
    if not (folder / "saved_model.pb").is_file() and (numbers := versions.existing(folder)):
        folder = folder / str(numbers[-1])
    return saved_model.check_folder(folder)


def _fitting(name: str, value: Any, tensor: TensorContract) -> Array:
    """``value`` as an array that the input ``name`` takes."""
    array = as_dtype(value, tensor.dtype)
    if array is None:
        raise InputError(f"feature '{name}' is no {tensor.dtype} array: give rows of one length, of values that "
                         f"{tensor.dtype} can hold")
    shape = tensor.shape
    if shape is None:
        return array
    if array.ndim == 1 and len(shape) == 2 and shape[1] in (None, 1):
        array = array[..., None]
    if array.ndim != len(shape) or any(size not in (None, have) for size, have in zip(shape, array.shape, strict=True)):
        raise InputError(f"feature '{name}' has shape {list(array.shape)}, the model takes {tensor}: the leading axis "
                         "is the batch")
    return array
