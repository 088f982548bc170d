"""What TensorFlow Serving's two protocols share: signatures, states and examples, as its JSON forms have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trt_pipeline.client.answers import Metadata, VersionStatus
from trt_pipeline.client.protocol import Example
from trt_pipeline.errors import InputError
from trt_pipeline.model.contract import SignatureContract, TensorContract

Document = Mapping[str, Any]
# Where the name in the enumeration is not that of the dtype.
_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}
_INTERNAL = "__saved_model"


def metadata(name: str, document: Document, signature_defs: Document) -> Metadata:
    """The model's signatures.

    Args:
        document: a GetModelMetadataResponse as JSON.
        signature_defs: name -> SignatureDef as JSON.
    """
    version = document.get("model_spec", {}).get("version")
    return Metadata(name=name, version=int(version) if version else None,
                    signatures={key: _signature(key, found) for key, found in sorted(signature_defs.items())
                                if not key.startswith(_INTERNAL)})


def statuses(document: Document) -> list[VersionStatus]:
    """The versions of a GetModelStatusResponse as JSON, newest first."""
    found = [VersionStatus(version=int(one.get("version", 0)), state=one.get("state", "UNKNOWN"),
                           code=str(one.get("status", {}).get("error_code", "OK")),
                           message=one.get("status", {}).get("error_message", ""))
             for one in document.get("model_version_status", ())]
    return sorted(found, key=lambda one: -one.version)


def features(example: Example) -> dict[str, list[Any]]:
    """Feature -> its values, all text (bytes), all whole numbers or all floats: what one Feature can hold.

    Raises:
        InputError: values that are not, or of several kinds.
    """
    return {name: _values(name, value) for name, value in example.items()}


def _signature(name: str, document: Document) -> SignatureContract:
    return SignatureContract(name=name, method_name=document.get("method_name", ""),
                             **{side: {key: _tensor(info) for key, info in sorted(document.get(side, {}).items())}
                                for side in ("inputs", "outputs")})


def _tensor(info: Document) -> TensorContract:
    dtype = str(info.get("dtype", "DT_INVALID")).removeprefix("DT_").lower()
    shape = info.get("tensor_shape", {})
    sizes = [int(dim.get("size", 0)) for dim in shape.get("dim", ())]
    return TensorContract(dtype=_DTYPES.get(dtype, dtype),
                          shape=None if shape.get("unknown_rank") else tuple(n if n >= 0 else None for n in sizes))


def _values(name: str, value: Any) -> list[Any]:
    plain = value.tolist() if hasattr(value, "tolist") else value
    values = [plain] if isinstance(plain, (str, bytes)) or not isinstance(plain, Sequence) else list(plain)
    if all(isinstance(one, (str, bytes)) for one in values):
        return [one.encode() if isinstance(one, str) else one for one in values]
    if all(isinstance(one, int) for one in values):
        return [int(one) for one in values]
    if all(isinstance(one, (int, float)) for one in values):
        return [float(one) for one in values]
    raise InputError(f"feature '{name}' is no list of numbers or of texts: {str(value)[:60]}")
