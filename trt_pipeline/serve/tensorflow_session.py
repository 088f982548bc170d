"""A SavedModel in a TensorFlow session, as the C++ server runs it: TF1 exports load too, errors are in its words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trt_pipeline.backends.base import Array
from trt_pipeline.serve.refusal import Code, RefusalError


class _Endpoints(NamedTuple):
    inputs: dict[str, Any]
    outputs: dict[str, Any]


class TensorFlowSession:
    """All signatures of one SavedModel; `run` may be called from any number of threads at once."""

    def __init__(self, folder: Path, tags: tuple[str, ...], signature_defs: Mapping[str, Any]) -> None:
        """Load the graph, its variables and tables.

        Raises:
            tensorflow.errors.OpError, ValueError: the model cannot be loaded.
        """
        import tensorflow as tf
        from tensorflow.python.util import deprecation

        self._graph = tf.Graph()
        self._session: Any = tf.compat.v1.Session(graph=self._graph)
        try:
            # Its successor loads into functions, whose calls take ten times as long for a small model.
            with deprecation.silence(), self._graph.as_default():
                tf.compat.v1.saved_model.load(self._session, list(tags), str(folder))
            self._endpoints = {name: self._resolve(definition) for name, definition in signature_defs.items()
                               if _dense(definition)}
        except BaseException:
            self._session.close()
            raise

    def run(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, sorted, of the types that the signature declares.

        Raises:
            RefusalError: UNIMPLEMENTED, the signature has tensors that are not dense.
            tensorflow.errors.OpError: what TensorFlow finds wrong, types and shapes of ``feeds`` included.
        """
        if signature not in self._endpoints:
            raise RefusalError(Code.UNIMPLEMENTED, f"signature {signature} has a sparse or composite tensor: "
                                                   "requests carry dense ones only")
        inputs, outputs = self._endpoints[signature]
        fed = {inputs[name]: _native(value) for name, value in feeds.items()}
        # The public Session.run converts feeds and refuses shapes by itself, in other words than a server's, and
        # takes a tenth of a millisecond for it.
        results = self._session._call_tf_sessionrun(None, fed, list(outputs.values()), [], None)
        # A string of rank 0 comes as plain bytes.
        return {name: np.asarray(result, object if isinstance(result, bytes) else None)
                for name, result in zip(outputs, results, strict=True)}

    def close(self) -> None:
        """Let go of the model's memory. There must be no `run` under way."""
        self._session.close()
        self._session = self._graph = None

    def _resolve(self, definition: Any) -> _Endpoints:
        def tensors(infos: Any) -> dict[str, Any]:
            return {name: self._graph.get_tensor_by_name(infos[name].name)._as_tf_output()
                    for name in sorted(infos)}

        return _Endpoints(tensors(definition.inputs), tensors(definition.outputs))


def _dense(definition: Any) -> bool:
    infos = (*definition.inputs.values(), *definition.outputs.values())
    return all(info.WhichOneof("encoding") == "name" and ":" in info.name for info in infos)


def _native(value: Array) -> Array:
    """``value`` in this machine's byte order, which TensorFlow takes any array to be in."""
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
