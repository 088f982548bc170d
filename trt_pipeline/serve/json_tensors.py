"""JSON values to tensors and back, with the types, limits and texts of TensorFlow Serving."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from trt_pipeline.backends.base import Array
from trt_pipeline.serve.refusal import Code, RefusalError, invalid

_SHOWN = 2**16  # characters of a client's value that an error repeats
_MAX_RANK = 32  # of NumPy; TensorFlow's is 254
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
_SERVING_NAMES = {"float16": "half", "float32": "float", "float64": "double"}


class RankError(RefusalError):
    """Lists are nested deeper than any tensor."""


def to_array(value: object, dtype: str) -> Array:
    """The tensor that nested lists spell; the first element of each list tells the shape.

    Args:
        dtype: TensorFlow's name of the type that the signature asks for.

    Raises:
        RefusalError: INVALID_ARGUMENT for lists that are ragged, and for values that are not of ``dtype`` or leave its
            range; UNIMPLEMENTED where JSON has no form of ``dtype``.
    """
    shape, leaves = _flatten(value)
    if dtype in ("float32", "float64"):
        flat = _floats(leaves, dtype)
    elif dtype in _INTEGERS:
        flat = _integers(leaves, dtype)
    elif dtype == "bool":
        _demand(leaves, {bool}, dtype)
        flat = np.array(leaves, bool)
    elif dtype == "string":
        flat = np.array([_bytes(leaf) for leaf in leaves], object)
    else:
        first = leaves[0] if leaves else value
        raise RefusalError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(first)} to type: "
                                               f"{_SERVING_NAMES.get(dtype, dtype)}")
    return flat.reshape(shape)


def to_json(name: str, array: Array) -> str:
    """The JSON text of output ``name``."""
    return _nest(_tokens(name, array), array.shape, 1)[0]


def to_json_rows(name: str, array: Array) -> list[str]:
    """The JSON texts of output ``name``, one for each element of the leading axis."""
    return _nest(_tokens(name, array), array.shape[1:], array.shape[0])


def shown(value: object) -> str:
    """``value`` as an error repeats it, cut when it is long.

    Raises:
        RefusalError: INVALID_ARGUMENT, it is a number that no double holds, which is what is wrong with it then.
    """
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        value = double(value)
    if isinstance(value, float):
        return decimals(np.array([value], np.float32 if abs(value) <= _LARGEST_FLOAT else np.float64))[0]
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False, indent=4).iterencode(value):
        text += piece
        if len(text) > _SHOWN:
            return text[:_SHOWN] + "..."
    return text


def double(number: float) -> float:
    """``number`` as RapidJSON has it, whole ones of more than 64 bits too.

    Raises:
        RefusalError: INVALID_ARGUMENT, a whole number that no double holds.
    """
    try:
        return float(number)
    except OverflowError:
        raise _too_big() from None


def of_base64(value: dict[str, Any]) -> bytes:
    """The bytes of ``{"b64": "..."}``; white space may be put in, and padding left out."""
    given = "".join(value["b64"].split())
    compact = given.rstrip("=")
    padding = "=" * (-len(compact) % 4)
    if len(given) not in (len(compact), len(compact + padding)):
        raise invalid("Unable to base64 decode")
    try:
        return base64.b64decode(compact + padding, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def json_type(value: object) -> str:
    """What TensorFlow Serving calls the type of a parsed JSON value."""
    names = {dict: "Object", list: "Array", str: "String", type(None): "Null", bool: str(value)}
    return names.get(type(value), "Number")


def decimals(values: Array) -> list[str]:
    """Six digits where they are the very number, else as many as its type can need: ``0.1``, ``0.333333343``."""
    numbers = values.tolist()
    texts = [f"{number:.6g}" for number in numbers]
    digits = 9 if values.dtype == np.float32 else 17
    for index in np.flatnonzero(np.array(texts, "U32").astype(values.dtype) != values):
        texts[index] = f"{numbers[index]:.{digits}g}"
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [special.get(text) or (text if "." in text or "e" in text else text + ".0") for text in texts]


def is_base64(value: object) -> bool:
    """Whether ``value`` is ``{"b64": "..."}``, which stands for one string."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _flatten(value: object) -> tuple[list[int], list[Any]]:
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    if len(shape) > _MAX_RANK:
        raise RankError(Code.INVALID_ARGUMENT, "tensor parsing error")
    leaves = [value]
    for level, size in enumerate(shape):
        for item in leaves:
            if not isinstance(item, list):
                raise invalid(f"JSON Value: {shown(item)} found at incorrect level: {level + 1} "
                              f"in the JSON DOM. Expected at level: {len(shape)}")
            if len(item) != size:
                raise invalid(f"Encountered list at unexpected size: {len(item)} at level: {level} "
                              f"expected size: {size}")
        leaves = list(chain.from_iterable(leaves))  # type: ignore[arg-type]
    if list in set(map(type, leaves)):
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
    return shape, leaves


def _demand(leaves: Sequence[Any], kinds: set[type], dtype: str) -> None:
    if not set(map(type, leaves)) <= kinds:
        raise _type_error(next(leaf for leaf in leaves if type(leaf) not in kinds), dtype)


def _type_error(leaf: object, dtype: str) -> RefusalError:
    return invalid(f"JSON Value: {shown(leaf)} Type: {json_type(leaf)} is not of expected type: "
                   f"{_SERVING_NAMES.get(dtype, dtype)}")


def _floats(leaves: list[Any], dtype: str) -> Array:
    """Numbers that the type cannot hold are rounded, or infinite, as in TensorFlow Serving."""
    _demand(leaves, {int, float}, dtype)
    try:
        values = np.array(leaves, np.float64)
    except OverflowError:
        raise _too_big() from None
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _too_big() -> RefusalError:
    return invalid("JSON Parse error: Number too big to be stored in double.")


def _integers(leaves: list[Any], dtype: str) -> Array:
    """Types of 8 and 16 bits take what 32 bits hold and keep the lower bits of it, as in TensorFlow Serving."""
    _demand(leaves, {int}, dtype)
    carrier = "int32" if np.dtype(dtype).itemsize < 4 else dtype
    limits = np.iinfo(carrier)
    if leaves and not limits.min <= min(leaves) <= max(leaves) <= limits.max:
        raise _type_error(next(leaf for leaf in leaves if not limits.min <= leaf <= limits.max), dtype)
    return np.array(leaves, carrier).astype(dtype)


def _bytes(leaf: object) -> bytes:
    if isinstance(leaf, str):
        try:
            return leaf.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    if not isinstance(leaf, dict):
        raise _type_error(leaf, "string")
    if not is_base64(leaf):
        raise invalid(f"JSON Value: {shown(leaf)} not formatted correctly for base64 data")
    return of_base64(leaf)


def _tokens(name: str, array: Array) -> list[str]:
    kind = array.dtype.kind
    if array.dtype in (np.float32, np.float64):
        return decimals(array.ravel())
    if array.dtype.name in _INTEGERS:
        return [str(number) for number in array.ravel().tolist()]
    if kind == "b":
        return ["true" if truth else "false" for truth in array.ravel().tolist()]
    if kind in "SO":
        return [_string(text, name.endswith("_bytes")) for text in array.ravel().tolist()]
    raise invalid("Failed to write JSON value for tensor type: "
                  f"{_SERVING_NAMES.get(array.dtype.name, array.dtype.name)}")


def _string(value: bytes, binary: bool) -> str:
    """``value`` as text, or in base64 where the output's name or the bytes themselves say that it is none."""
    if not binary:
        try:
            return json.dumps(value.decode(), ensure_ascii=False)
        except UnicodeDecodeError:
            pass
    return f'{{"b64": "{base64.b64encode(value).decode()}"}}'


def _nest(tokens: list[str], shape: Sequence[int], count: int) -> list[str]:
    """``tokens`` as ``count`` nested lists of ``shape``."""
    for axis in reversed(range(len(shape))):
        size, lists = shape[axis], count * math.prod(shape[:axis])
        tokens = ["[" + ", ".join(tokens[at * size:(at + 1) * size]) + "]" for at in range(lists)]
    return tokens
