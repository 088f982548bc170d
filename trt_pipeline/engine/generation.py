"""The two ways to ask TensorRT for a precision, and which of its versions have which."""

from __future__ import annotations

import re

Version = tuple[int, ...]
# From 10.12 on flags for a precision are deprecated, and 11 has none: the types in the graph are what is computed.
_FIRST_TYPED = (10, 12)
_FIRST_WITH_BFLOAT16 = (9, 0)
_FIRST_WITH_INT64 = (10, 0)
_TENSORFLOWS = 8
# The oldest whose parser and Q/DQ are known to do; its wheel is the newest of 8 on the package index.
OLDEST = (8, 5)
DEFAULT = "8.5"
"""The version that is converted for where none is named or installed: what TensorFlow Serving's images can load."""


def parse_version(text: str) -> Version:
    """``"8.5.3.1"`` as (8, 5, 3, 1).

    Raises:
        ValueError: it is not numbers and dots, or is older than `OLDEST`.
    """
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6}){0,4}", text):
        raise ValueError(f"'{text}' is not a TensorRT version such as 8.5 or 10.13")
    number = tuple(int(part) for part in text.split("."))
    if number < OLDEST[:len(number)]:
        raise ValueError(f"TensorRT {text} is too old: name 8.5 or later")
    return number


def is_tensorflows(version: Version) -> bool:
    """Whether a TensorFlow can have its engines: those that have TRTEngineOp were all built for TensorRT 8."""
    return version[0] == _TENSORFLOWS


def typed(version: Version) -> bool:
    """Whether precision is what the graph's types say (strongly typed), rather than builder flags."""
    return version >= _FIRST_TYPED


def has_bfloat16(version: Version) -> bool:
    """Whether it computes in bfloat16."""
    return version >= _FIRST_WITH_BFLOAT16


def has_int64(version: Version) -> bool:
    """Whether inputs and outputs of an engine can be int64; before, it has int32 in their place."""
    return version >= _FIRST_WITH_INT64
