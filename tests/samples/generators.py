"""Generators of samples, for `module:function`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

no_function = 3


def pairs() -> Iterator[dict[str, Any]]:
    for number in range(3):
        yield {"x": np.full((2,), number, np.float32), "n": np.int64(number)}


def texts() -> Iterator[dict[str, Any]]:
    yield {"x": "번역"}
    yield {"x": "longer text"}


def serialized() -> Iterator[dict[str, Any]]:
    yield {"x": b"\n\x02ends in\0\0"}
    yield {"x": b"\0"}


def ragged() -> Iterator[dict[str, Any]]:
    yield {"x": np.zeros(2)}
    yield {"x": np.zeros(3)}


def bare() -> Iterator[Any]:
    yield {"x": 1}
    yield np.zeros(2)


def nothing() -> Iterator[Any]:
    return iter(())


def raising() -> Iterator[Any]:
    yield {"x": 1}
    raise FileNotFoundError("corpus.txt")
