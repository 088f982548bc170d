"""tf.Example of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trt_pipeline.errors import InputError
from trt_pipeline.expressions import as_dtype
from trt_pipeline.model.contract import TensorContract

_WHOLE, _REAL, _TEXT = "int64", "float32", "string"


def serialize(features: Mapping[str, Any], known: Mapping[str, TensorContract] | None = None) -> bytes:
    """One tf.Example with ``features``, serialized; equal ones are equal bytes.

    A feature that ``known`` names has its type; the others theirs: whole numbers int64, numbers float32, text and
    bytes bytes.

    Args:
        features: feature name -> value, or array or nested lists of values, which are flattened.
        known: feature name -> the raw tensor that it is parsed into.

    Raises:
        InputError: values are of no such type.
    """
    import tensorflow as tf

    example = tf.train.Example()
    for name, value in features.items():
        dtype = _kind(value) if known is None or name not in known else _of_example(known[name].dtype)
        array = None if dtype is None else as_dtype(value, dtype)
        if array is None:
            raise InputError(f"feature '{name}' is no {dtype or 'row of numbers or texts'}: {str(value)[:60]}")
        feature, flat = example.features.feature[name], array.ravel().tolist()
        if dtype == _TEXT:
            feature.bytes_list.value.extend(item.encode() if isinstance(item, str) else item for item in flat)
        elif dtype == _WHOLE:
            feature.int64_list.value.extend(flat)
        else:
            feature.float_list.value.extend(flat)
    return bytes(example.SerializeToString(deterministic=True))


def _of_example(dtype: str) -> str:
    """The type, of the three that tf.Example has, that is parsed into ``dtype``."""
    return dtype if dtype in (_WHOLE, _TEXT) else _REAL


def _kind(value: Any) -> str | None:
    try:
        kind = np.asarray(value).dtype.kind
    except ValueError:  # rows of several lengths
        return None
    return {"b": _WHOLE, "i": _WHOLE, "u": _WHOLE, "f": _REAL, "U": _TEXT, "S": _TEXT, "O": _TEXT}.get(kind)
