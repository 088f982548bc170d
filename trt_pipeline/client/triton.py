"""What Triton's two protocols share: models of one signature, tensors, and its JSON forms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from trt_pipeline.client.answers import Label, Metadata, VersionStatus
from trt_pipeline.client.arrays import Array
from trt_pipeline.client.protocol import Bounds, Example, Protocol, Spec, Steps
from trt_pipeline.errors import InputError
from trt_pipeline.model.contract import DEFAULT_SIGNATURE, SignatureContract, TensorContract
from trt_pipeline.publish.triton import triton_name

Document = Mapping[str, Any]
_STATES = {"READY": "AVAILABLE", "UNAVAILABLE": "END", "LOADING": "LOADING", "UNLOADING": "UNLOADING"}
_DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16", "BYTES": "string"}


class Triton(Protocol):
    """A Triton server. Its models have one signature each: see `resolve`."""

    def __init__(self, address: str, target: str, timeout: float) -> None:
        super().__init__(address, target, timeout)
        self._resolved: dict[tuple[str, str], tuple[str, str]] = {}

    def resolve(self, spec: Spec, signature: str | None, timeout: Bounds) -> Steps[tuple[Spec, str | None]]:
        """The model that was published of ``signature``: ``NAME-SIGNATURE`` or else ``NAME``.

        Raises:
            RequestError: NAME is known to be another signature; of ONNX files and engines Triton is not told.
        """
        if spec.label is not None:
            raise InputError(f"label '{spec.label}': Triton has no labels: name a version")
        if signature is None:
            return spec, None
        key = spec.name, signature
        if key not in self._resolved:
            self._resolved[key] = yield from self._find(spec, signature, timeout)
        name, called = self._resolved[key]
        return spec._replace(name=name), called

    def _find(self, spec: Spec, signature: str, timeout: Bounds) -> Steps[tuple[str, str]]:
        own = triton_name(spec.name, signature, [DEFAULT_SIGNATURE])
        model = own if own == spec.name or (yield from self.ready(own, timeout)) else spec.name
        called = yield from self._called(spec._replace(name=model), timeout)
        if called not in (signature, None):
            raise self.refused(f"model {model} is the signature '{called}', not '{signature}'", "FAILED_PRECONDITION")
        return model, called or DEFAULT_SIGNATURE

    def _called(self, spec: Spec, timeout: Bounds) -> Steps[str | None]:
        """Which signature of its SavedModel a model is; None where Triton is not told."""
        config = yield from self.model_config(spec, timeout)
        name: str | None = config.get("parameters", {}).get("TF_SIGNATURE_DEF", {}).get("string_value")
        return name

    def predict_impl(self, spec: Spec, feeds: dict[str, Array], signature: str | None,
                     contract: SignatureContract | None, outputs: Sequence[str] | None,
                     timeout: Bounds) -> Steps[dict[str, Array]]:
        inputs = [self._input(name, array) for name, array in feeds.items()]
        result, names = yield from self.infer(spec, inputs, outputs, timeout)
        return {name: self._array(result, name) for name in names}

    def metadata_impl(self, spec: Spec, timeout: Bounds) -> Steps[Metadata]:
        document = yield from self.model_metadata(spec, timeout)
        signature = (yield from self._called(spec, timeout)) or DEFAULT_SIGNATURE
        served = [int(text) for text in document.get("versions", ()) if text.isdecimal()]
        contract = SignatureContract(name=signature, method_name="", **{
            side: {one["name"]: _tensor(one) for one in document.get(side, ())} for side in ("inputs", "outputs")})
        return Metadata(name=spec.name, version=spec.version or max(served, default=None),
                        signatures={signature: contract})

    def status(self, spec: Spec, timeout: Bounds) -> Steps[list[VersionStatus]]:
        index = yield from self.repository_index(timeout)
        found = [VersionStatus(version=int(one["version"]), state=_STATES.get(one.get("state", ""), "UNKNOWN"),
                               code="UNKNOWN" if one.get("reason", "") not in ("", "unloaded") else "OK",
                               message=one.get("reason", ""))
                 for one in index if one["name"] == spec.name and one.get("version")]
        if spec.version is not None:
            found = [one for one in found if one.version == spec.version]
        if not found:
            raise self.refused(f"no version of model '{spec.name}' is known", "NOT_FOUND")
        return sorted(found, key=lambda one: -one.version)

    def classify(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                 timeout: Bounds) -> Steps[list[list[Label]]]:
        raise _no_examples("classify")
        yield

    def regress(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                timeout: Bounds) -> Steps[list[float]]:
        raise _no_examples("regress")
        yield

    def describe(self, timeout: Bounds) -> Steps[str]:
        found = yield from self.server_metadata(timeout)
        return f"Triton {found.get('version', '')} ({found.get('name', '')})"

    @abstractmethod
    def new_input(self, name: str, shape: tuple[int, ...], datatype: str) -> Any:
        """The library's empty input tensor."""

    @abstractmethod
    def infer(self, spec: Spec, inputs: list[Any], outputs: Sequence[str] | None,
              timeout: Bounds) -> Steps[tuple[Any, list[str]]]:
        """The library's result, and the names of the outputs in it."""

    @abstractmethod
    def server_metadata(self, timeout: Bounds) -> Steps[Document]: ...

    @abstractmethod
    def model_metadata(self, spec: Spec, timeout: Bounds) -> Steps[Document]: ...

    @abstractmethod
    def model_config(self, spec: Spec, timeout: Bounds) -> Steps[Document]: ...

    @abstractmethod
    def repository_index(self, timeout: Bounds) -> Steps[list[Document]]: ...

    def _input(self, name: str, array: Array) -> Any:
        is_bfloat16 = array.dtype.name == "bfloat16"
        datatype = "BF16" if is_bfloat16 else np_to_triton_dtype(array.dtype)
        if datatype is None:
            raise InputError(f"input '{name}': Triton has no {array.dtype}")
        made = self.new_input(name, array.shape, datatype)
        made.set_data_from_numpy(array.astype(np.float32) if is_bfloat16 else array)
        return made

    def _array(self, result: Any, name: str) -> Array:
        array: Array = result.as_numpy(name)
        return array if array.size else array.astype(triton_to_np_dtype(self.datatype(result, name)))

    @abstractmethod
    def datatype(self, result: Any, output: str) -> str:
        """Triton's name of an output's dtype."""


def version_text(spec: Spec) -> str:
    """The version as tritonclient takes it; empty for the one that the server's policy chooses."""
    return "" if spec.version is None else str(spec.version)


def _tensor(document: Document) -> TensorContract:
    sizes = [int(size) for size in document.get("shape", ())]
    datatype = document["datatype"]
    return TensorContract(dtype=_DTYPES.get(datatype, datatype.lower()),
                          shape=tuple(size if size >= 0 else None for size in sizes))


def _no_examples(verb: str) -> InputError:
    return InputError(f"Triton has no {verb}: send the signature's inputs with predict")
