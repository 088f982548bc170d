"""What of a tensor a report shows: its shape, some of its values, and what they say where a vocabulary is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.frozen import Frozen
from trt_pipeline.vocabulary import Vocabulary

Array = npt.NDArray[Any]
Value = int | float | bool | str
MOST_VALUES = 64
_LONGEST_TEXT = 1000
_LONGEST_STRING = 200


class Excerpt(Frozen):
    """Part of a tensor, or all of one that is small."""

    dtype: str
    shape: tuple[int, ...]
    values: tuple[Value, ...]
    """At most 64, flattened. Floats have the 7 digits that float32 has; NaN, the infinities, complex
    numbers and bytes are strings."""
    start: int = 0
    """Place of the first of ``values`` in the flattened tensor: not 0 where a long one is shown around its worst
    element."""
    text: str | None = None
    """The whole tensor as its vocabulary decodes it; None without one."""


class WorstSample(Frozen):
    """One of the samples of which an output differs most from the original's."""

    sample: int | None
    """Its number in the samples; None where the output has no row of its own for each, and all of it is shown."""
    case: str
    """The name of the case in which it was worst."""
    excess: float | None
    """Error over bound, above 1 where it is too large; None where nothing may differ, or no number says by how much
    (NaN, infinity). Floats: of the worst element; where only the output as a whole is bounded, over its largest
    magnitude. Tokens: the share that differs over the share that the gate allows; of top k, so with its rows."""
    inputs: dict[str, Excerpt] = {}
    """What the signature was fed of this sample, without padding."""
    expected: Excerpt
    got: Excerpt


def excerpt(array: Array, vocabulary: Vocabulary | None = None, around: int = 0,
            pad: int | None = None) -> Excerpt:
    """What is shown of ``array``.

    Args:
        vocabulary: of its ids, where it holds some.
        around: flattened index of the element that has to be among the values.
        pad: see `Vocabulary.decode`.
    """
    start = min(max(around - MOST_VALUES // 2, 0), max(array.size - MOST_VALUES, 0))
    values = array.ravel()[start:start + MOST_VALUES]
    text = None
    if vocabulary and array.dtype.kind in "iu":
        text = _shortened(vocabulary.decode(array, pad), _LONGEST_TEXT)
    return Excerpt(dtype="string" if array.dtype.kind in "OSU" else array.dtype.name, shape=array.shape, start=start,
                   values=tuple(map(_value, values)), text=text)


def _value(value: Any) -> Value:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, bytes):
        return _shortened(value.decode(errors="backslashreplace"), _LONGEST_STRING)
    if isinstance(value, str):
        return _shortened(value, _LONGEST_STRING)
    if isinstance(value, (complex, np.complexfloating)):
        return f"{value:.7g}"
    # bfloat16 is no np.floating; what JSON has no number for is said in words.
    return float(f"{float(value):.7g}") if np.isfinite(float(value)) else str(float(value))


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest - 1] + "…"
