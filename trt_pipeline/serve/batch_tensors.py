"""Inputs of several requests joined along their leading axis, and the outputs cut again, as TensorFlow Serving does."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate

import numpy as np

from trt_pipeline.backends.base import Array
from trt_pipeline.serve.refusal import Code, RefusalError

_MOST_AXES = 6  # that TensorFlow Serving can lengthen


class OutputsError(RefusalError):
    """Outputs that cannot be cut: no request of that signature can be answered, alone or not."""


def rows_of(feeds: Mapping[str, Array]) -> int:
    """The length of the leading axis, which all inputs share.

    Raises:
        RefusalError: INVALID_ARGUMENT, they do not, or one has no axis.
    """
    if any(array.ndim == 0 for array in feeds.values()):
        raise RefusalError(Code.INVALID_ARGUMENT, "Batching Run() input tensors must have at least one dimension")
    rows = {len(array) for array in feeds.values()}
    if len(rows) != 1:
        raise RefusalError(Code.INVALID_ARGUMENT, "Batching Run() input tensors must have equal 0th-dimension size"
                           if rows else "Batching Run() must have at least one input tensor")
    return rows.pop()


def kind_of(feeds: Mapping[str, Array], lengthen: bool, padding: Mapping[str, int]) -> Hashable:
    """Equal for feeds that can be joined: names, dtypes and the axes but the first; to ``lengthen``, their number.

    Of inputs with a ``padding``, the next power of two to their length: a batch takes as long as its longest row.
    """
    def axes(name: str, array: Array) -> Hashable:
        if name in padding and array.ndim > 1:
            return (array.shape[1] - 1).bit_length(), array.shape[2:]
        return array.ndim if lengthen and array.size and array.ndim <= _MOST_AXES else array.shape[1:]

    return tuple((name, feeds[name].dtype.str, axes(name, feeds[name])) for name in sorted(feeds))


def cut(tensors: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """``tensors`` in pieces of so many ``rows``; what is left over is dropped."""
    ends = list(accumulate(rows))
    return [{name: array[end - count:end] for name, array in tensors.items()}
            for end, count in zip(ends, rows, strict=True)]


def join(requests: Sequence[Mapping[str, Array]], filled: int, padding: Mapping[str, int]) -> dict[str, Array]:
    """The feeds of ``requests``, of one `kind_of`, under each other, then the last's first row up to ``filled`` rows.

    Axes of different lengths get the longest, filled with the input's ``padding``. An input without any gets the
    request's own first value: to most models that is not padding but more input, so their answers change, here as
    in TensorFlow Serving.
    """
    return {name: _join([request[name] for request in requests], filled, padding.get(name)) for name in requests[0]}


def under_each_other(answers: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The outputs of a request that was cut, whole again.

    Raises:
        RefusalError: INVALID_ARGUMENT, they differ in more than their rows, as sentences do that a model writes.
    """
    for name in answers[0]:
        if len({answer[name].shape[1:] for answer in answers}) > 1:
            shapes = " vs. ".join(str(list(answer[name].shape)) for answer in answers)
            raise RefusalError(Code.INVALID_ARGUMENT, f"Cannot concatenate output {name} of a request that was split: "
                                                      f"its parts have the shapes {shapes}; send fewer rows")
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def check_outputs(outputs: Mapping[str, Array], rows: int) -> None:
    """
    Raises:
        OutputsError: FAILED_PRECONDITION, an output has not one row for each of the ``rows`` fed.
    """
    for array in outputs.values():
        if array.ndim == 0:
            raise OutputsError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise OutputsError(Code.FAILED_PRECONDITION, "Batched output tensor's 0th dimension does not equal the sum "
                                                         "of the 0th dimension sizes of the input tensors")


def _join(arrays: list[Array], filled: int, padding: int | None) -> Array:
    longest = tuple(max(lengths) for lengths in zip(*(array.shape[1:] for array in arrays), strict=True))
    arrays = [_lengthened(array, longest, padding) for array in arrays]
    missing = filled - sum(map(len, arrays))
    if missing:
        arrays.append(np.repeat(arrays[-1][:1], missing, axis=0))
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _lengthened(array: Array, axes: tuple[int, ...], padding: int | None) -> Array:
    if array.shape[1:] == axes:
        return array
    longer = np.full((len(array), *axes), array.flat[0] if padding is None else padding, array.dtype)
    longer[tuple(map(slice, array.shape))] = array
    return longer
