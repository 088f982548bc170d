"""An ONNX file in an ONNX Runtime session, with the signature that a SavedModel of it would have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trt_pipeline.backends.base import Array
from trt_pipeline.model.contract import PREDICT_METHOD, Contract, SignatureContract, TensorContract
from trt_pipeline.serve.refusal import Code, RefusalError

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ")
_DTYPES = {"float": "float32", "double": "float64"}
_LONGEST = 300


class OnnxSession:
    """The one signature of an ONNX file; `run` may be called from any number of threads at once."""

    def __init__(self, file: Path, signature: str) -> None:
        """
        Raises:
            RefusalError: DATA_LOSS, ONNX Runtime cannot load the file.
        """
        from trt_pipeline.backends import onnxruntime

        try:
            self._session: Any = onnxruntime.session(file, None)
        except Exception as error:
            raise RefusalError(Code.DATA_LOSS, f"cannot load {file}: {_text(error)}") from error
        self.contract = self._contract(signature, file.stat().st_size)

    def run(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, sorted.

        Raises:
            RefusalError: INVALID_ARGUMENT for inputs that do not fit, INTERNAL for a failure while it ran.
        """
        known = self.contract.signatures[signature]
        fed = {name: _to_onnx(name, value, known.inputs[name]) for name, value in feeds.items()}
        names = list(known.outputs)
        try:
            results = self._session.run(names, fed)
        except Exception as error:
            found = _PREFIX.match(str(error))
            invalid = isinstance(error, ValueError) or bool(found and found[1] == "INVALID_ARGUMENT")
            raise RefusalError(Code.INVALID_ARGUMENT if invalid else Code.INTERNAL, _text(error)) from error
        return {name: _of_onnx(value) for name, value in zip(names, results, strict=True)}

    def close(self) -> None:
        """Let go of the model's memory. There must be no `run` under way."""
        self._session = None

    def _contract(self, signature: str, size: int) -> Contract:
        session = self._session
        whole = SignatureContract(
            name=signature, method_name=PREDICT_METHOD,
            inputs={tensor.name: _tensor(tensor) for tensor in session.get_inputs()},
            outputs={tensor.name: _tensor(tensor) for tensor in sorted(session.get_outputs(), key=lambda t: t.name)})
        return Contract(tags=("serve",), signatures={signature: whole}, assets={}, extra_assets={}, tables=0,
                        variable_bytes=size, tensorflow_version="")


def signature_def(contract: SignatureContract) -> Any:
    """The SignatureDef message of ``contract``; tensors have their own names with ":0"."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    def infos(tensors: Mapping[str, TensorContract]) -> dict[str, Any]:
        return {name: meta_graph_pb2.TensorInfo(
            name=f"{name}:0", dtype=tf.as_dtype(tensor.dtype).as_datatype_enum,
            tensor_shape=tf.TensorShape(tensor.shape).as_proto()) for name, tensor in tensors.items()}

    return meta_graph_pb2.SignatureDef(inputs=infos(contract.inputs), outputs=infos(contract.outputs),
                                       method_name=contract.method_name)


def _tensor(tensor: Any) -> TensorContract:
    element = tensor.type.removeprefix("tensor(").removesuffix(")")
    return TensorContract(dtype=_DTYPES.get(element, element),
                          shape=tuple(size if isinstance(size, int) and size >= 0 else None for size in tensor.shape))


def _to_onnx(name: str, value: Array, tensor: TensorContract) -> Array:
    """``value`` as ONNX Runtime takes it, which has strings as text."""
    array = np.asarray(value)
    actual = "string" if array.dtype.kind in "OSU" else array.dtype.name
    if actual != tensor.dtype:  # ONNX Runtime would take objects for numbers
        raise RefusalError(Code.INVALID_ARGUMENT, f"Expects input {name} to be {tensor.dtype} but {actual} is provided")
    if actual != "string":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    except UnicodeDecodeError:
        raise RefusalError(Code.INVALID_ARGUMENT, f"input {name} is not UTF-8, which ONNX Runtime's strings "
                                                  "are") from None
    return texts.reshape(array.shape)


def _of_onnx(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "OU":
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [str(item).encode() for item in array.ravel()]
    return texts.reshape(array.shape)


def _text(error: Exception) -> str:
    return _PREFIX.sub("", " ".join(str(error).split()))[:_LONGEST]
