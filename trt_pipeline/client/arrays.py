"""What users write as inputs, as arrays; and JSON's nested lists."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline import expressions
from trt_pipeline.errors import InputError
from trt_pipeline.model.contract import TensorContract

Array = npt.NDArray[Any]


def is_array(value: Any) -> bool:
    """Whether ``value`` has a dtype of its own: arrays, their scalars and tensors."""
    return hasattr(value, "dtype")


def feed(name: str, value: Any, tensor: TensorContract | None) -> Array:
    """``value`` as an array; strings as bytes objects.

    Args:
        tensor: tells the dtype of what is no array; None where ``value`` is one.

    Raises:
        InputError: it does not fit the dtype.
    """
    if is_array(value):
        return _bytes(np.asarray(value))
    assert tensor
    made = expressions.as_dtype(value, tensor.dtype)
    if made is None:
        raise InputError(f"input '{name}' is no {tensor.dtype} array (rows of one length, numbers in range): "
                         f"{str(value)[:60]}")
    return _bytes(made)


def to_json(array: Array) -> Any:
    """Nested lists that say ``array`` exactly; bytes objects as ``{"b64": ...}``."""
    if array.dtype.kind == "O":
        return _map(array.tolist(), lambda text: {"b64": base64.b64encode(text).decode()})
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise InputError(f"REST has no {array.dtype} values: use gRPC")
    return (array.astype(np.float32) if array.dtype.name == "bfloat16" else array).tolist()


def of_json(value: Any, tensor: TensorContract) -> Array:
    """The array that ``value`` spells, of the dtype of ``tensor``; bfloat16 as float32, strings as bytes objects."""
    if tensor.dtype == "string":
        made = np.array(_map(value, _text), dtype=object)
    else:
        made = np.array(value, dtype="float32" if tensor.dtype == "bfloat16" else tensor.dtype)
    if not made.size and tensor.shape is not None and made.ndim < len(tensor.shape):
        # An empty list hides the axes below it.
        made = made.reshape([*made.shape, *(size or 0 for size in tensor.shape[made.ndim:])])
    return made


def _text(value: Any) -> bytes:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def _map(value: Any, function: Any) -> Any:
    return [_map(item, function) for item in value] if isinstance(value, list) else function(value)


def _bytes(array: Array) -> Array:
    if array.dtype.kind not in "OSU":
        return array
    made = np.empty(array.shape, dtype=object)
    made.ravel()[:] = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return made
