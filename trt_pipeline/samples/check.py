"""Check samples against the signature that they are for, before any work is spent on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import SamplesError
from trt_pipeline.model.contract import SignatureContract, TensorContract

Array = npt.NDArray[Any]


def check(arrays: dict[str, Array], signature: SignatureContract, source: str) -> dict[str, Array]:
    """The arrays that ``signature`` takes, in its order.

    Raises:
        SamplesError: an input is missing, has another dtype, rank or fixed dimension, holds NaN,
            or there are no samples or unequal numbers of them.
    """
    where = f"{source}: signature {signature.name}"
    missing = [name for name, tensor in signature.inputs.items() if name not in arrays and tensor.default is None]
    if missing:
        raise SamplesError(f"{where}: input '{missing[0]}' is missing: the samples have "
                           f"{', '.join(sorted(arrays)) or 'nothing'}")
    # In the machine's byte order: ONNX Runtime reads the bytes as they lie.
    fitting = {name: arrays[name].astype(arrays[name].dtype.newbyteorder("="), copy=False)
               for name in signature.inputs if name in arrays}
    for name, array in fitting.items():
        _check_input(f"{where}: input '{name}'", array, signature.inputs[name])
    sizes = {name: len(array) for name, array in fitting.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise SamplesError(f"{where}: inputs have different numbers of samples ({counts})")
    return fitting


def _check_input(where: str, array: Array, tensor: TensorContract) -> None:
    is_text = array.dtype.kind in "SU" or (array.dtype.kind == "O" and all(
        isinstance(item, (bytes, str)) for item in array.ravel()))
    if not is_text if tensor.dtype == "string" else array.dtype.name != tensor.dtype:
        raise SamplesError(f"{where} has dtype {array.dtype.name}, the model takes {tensor.dtype}: convert the samples")
    if tensor.shape == ():
        raise SamplesError(f"{where} is a scalar, and samples have a batch axis: leave the signature out with "
                           "'signatures', or export it with a batch")
    if tensor.shape is not None and array.ndim != len(tensor.shape):
        raise SamplesError(f"{where} has rank {array.ndim}, the model takes rank {len(tensor.shape)} {tensor}")
    if array.ndim == 0 or len(array) == 0:
        raise SamplesError(f"{where} holds zero samples: the leading axis is the batch axis")
    for axis, size in enumerate(tensor.shape or ()):
        # Axis 0 holds the samples; a fixed batch size says how many are fed at a time.
        if axis and size is not None and array.shape[axis] != size:
            raise SamplesError(f"{where} has {array.shape[axis]} on axis {axis}, the model takes {size} {tensor}")
    if array.dtype.kind == "f" and (bad := _first_nan(array)) is not None:
        raise SamplesError(f"{where} holds NaN in sample {bad}: clean the samples")


def _first_nan(array: Array) -> int | None:
    for number, sample in enumerate(array):
        if np.isnan(sample).any():
            return number
    return None
