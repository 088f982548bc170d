"""TensorProto messages to arrays and back, with the limits of TensorFlow's own `Tensor::FromProto`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from trt_pipeline.backends.base import Array
from trt_pipeline.serve.refusal import invalid

_LARGEST = 2**31  # bytes; a message cannot hold more, so a larger tensor is one value said to fill it
_FIELDS: dict[int, tuple[Any, str]] = {  # type -> what its field's values are in NumPy, and that field
    types_pb2.DT_FLOAT: (np.float32, "float_val"), types_pb2.DT_DOUBLE: (np.float64, "double_val"),
    types_pb2.DT_INT32: (np.int32, "int_val"), types_pb2.DT_INT64: (np.int64, "int64_val"),
    types_pb2.DT_BOOL: (np.bool_, "bool_val"), types_pb2.DT_UINT8: (np.uint8, "int_val"),
    types_pb2.DT_INT8: (np.int8, "int_val"), types_pb2.DT_UINT16: (np.uint16, "int_val"),
    types_pb2.DT_INT16: (np.int16, "int_val"), types_pb2.DT_UINT32: (np.uint32, "uint32_val"),
    types_pb2.DT_UINT64: (np.uint64, "uint64_val"), types_pb2.DT_STRING: (object, "string_val"),
    types_pb2.DT_HALF: (np.uint16, "half_val"), types_pb2.DT_BFLOAT16: (np.uint16, "half_val"),
    types_pb2.DT_COMPLEX64: (np.complex64, "scomplex_val"), types_pb2.DT_COMPLEX128: (np.complex128, "dcomplex_val"),
}
_CODES = {np.dtype(tf.dtypes.as_dtype(code).as_numpy_dtype): code for code in _FIELDS if code != types_pb2.DT_STRING}


def to_array(proto: tensor_pb2.TensorProto) -> Array:
    """The array that ``proto`` holds, in its content or its typed field.

    As TensorFlow reads it: fewer values than the shape has elements are filled up with the last one,
    more are cut, none are zeros.

    Raises:
        ValueError: the type is none of a tensor's, the shape is negative, unknown or too large, or the content
            is not of the shape's length.
    """
    if proto.dtype not in _FIELDS:
        raise ValueError(f"type {proto.dtype}")
    kind, field = _FIELDS[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"shape {shape}")
    size, width = math.prod(shape), np.dtype(kind).itemsize
    if size * width > _LARGEST:
        raise ValueError(f"shape {shape} is too large")
    if proto.tensor_content and kind is not object:
        if len(proto.tensor_content) != size * width:
            raise ValueError("length of tensor_content")
        flat = np.frombuffer(proto.tensor_content, kind)
    elif proto.tensor_content:
        flat = tf.make_ndarray(proto).ravel()
    else:
        flat = _filled(_values(getattr(proto, field), kind), size)
    if proto.dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        flat = flat.view(tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype)
    return flat.reshape(shape)


def to_arrays(protos: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, Array]:
    """Each of ``protos`` by name.

    Raises:
        RefusalError: INVALID_ARGUMENT, one is no tensor.
    """
    arrays = {}
    for name in sorted(protos):
        try:
            arrays[name] = to_array(protos[name])
        except (ValueError, TypeError, OverflowError):
            raise invalid(f"tensor parsing error: {name}") from None
    return arrays


def to_proto(array: Array) -> tensor_pb2.TensorProto:
    """``array`` in the typed field of its type, which is what TensorFlow Serving fills and its clients read.

    Raises:
        TypeError: TensorProto has no field for the type.
    """
    proto = tensor_pb2.TensorProto()
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OSU":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist())
        return proto
    if array.dtype not in _CODES:
        raise TypeError(f"no TensorProto for {array.dtype}")
    proto.dtype = _CODES[array.dtype]
    kind, field = _FIELDS[proto.dtype]
    flat = np.ascontiguousarray(array).ravel()
    if field == "half_val":
        flat = flat.view(np.uint16)
    elif kind in (np.complex64, np.complex128):
        flat = flat.view(np.float32 if kind is np.complex64 else np.float64)
    getattr(proto, field).extend(flat.tolist())
    return proto


def _values(values: Any, kind: Any) -> Array:
    if kind is object:
        return np.array(list(values), object)
    if kind in (np.complex64, np.complex128):
        parts = np.array(values, np.float32 if kind is np.complex64 else np.float64)
        return parts[:len(parts) // 2 * 2].view(kind)
    if np.dtype(kind).itemsize < 4:  # carried in wider fields, and cut to their type as C++ does
        return np.array(values, np.int32).astype(kind)
    return np.array(values, kind)


def _filled(values: Array, size: int) -> Array:
    if len(values) >= size:
        return values[:size]
    last = values[-1] if len(values) else (b"" if values.dtype == object else values.dtype.type(0))
    filled = np.full(size, last, values.dtype)
    filled[:len(values)] = values
    return filled
