"""A folder of checked samples that every worker can map into memory; strings without pickles."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# '@' and '/' never stand in a quoted name, so any tensor name makes a file name of its own.
_NUMBERS, _BYTES, _OFFSETS = ".npy", "@bytes.npy", "@offsets.npy"


def write(arrays: dict[str, Array], folder: Path) -> None:
    """Write ``arrays`` to ``folder``, one file each; two for strings."""
    folder.mkdir(parents=True, exist_ok=True)
    for plain_name, array in arrays.items():
        name = quote(plain_name, safe="")
        if array.dtype.kind in "SUO":
            texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
            shape = np.array(array.shape, dtype=np.int64)
            ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
            np.save(folder / (name + _BYTES), np.frombuffer(b"".join(texts), dtype=np.uint8))
            np.save(folder / (name + _OFFSETS), np.concatenate([[len(shape)], shape, ends]))
        else:
            np.save(folder / (name + _NUMBERS), without_bfloat16(array))


def without_bfloat16(array: Array) -> Array:
    """bfloat16, which numpy can neither save nor compare, as the float32 of the same value."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def read(folder: Path) -> dict[str, Array]:
    """The arrays that `write` put in ``folder``, mapped into memory; strings as bytes objects."""
    arrays: dict[str, Array] = {}
    for file in sorted(folder.glob("*" + _NUMBERS)):
        if file.name.endswith(_BYTES):
            name = file.name[: -len(_BYTES)]
            arrays[unquote(name)] = _strings(np.load(file), np.load(folder / (name + _OFFSETS)))
        elif not file.name.endswith(_OFFSETS):
            arrays[unquote(file.name[: -len(_NUMBERS)])] = np.load(file, mmap_mode="r")
    return arrays


class Samples:
    """Samples of one signature, opened from a folder that `write` made.

    ``padding`` maps an input to the value that fills its axis 1 up to a common width; batches are
    trimmed to their longest sample, so the model sees true lengths.
    """

    def __init__(self, folder: Path, padding: dict[str, int] | None = None) -> None:
        self._columns = read(folder)
        self._padding = {name: pad for name, pad in (padding or {}).items() if name in self._columns}

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    @property
    def padded(self) -> bool:
        """Whether some input is padded, so that samples have lengths of their own."""
        return bool(self._padding)

    @functools.cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each sample on axis 1 without its padding, shape (N,); the longest input decides."""
        lengths = np.zeros(len(self), dtype=np.int64)
        for name, pad in self._padding.items():
            filled = np.asarray(self._columns[name]) != pad
            filled = filled.any(axis=tuple(range(2, filled.ndim)))
            width = filled.shape[1]
            own = np.where(filled.any(axis=1), width - np.argmax(filled[:, ::-1], axis=1), 1)
            lengths = np.maximum(lengths, own)
        return lengths

    def batches(self, size: int, most: int | None = None) -> list[list[int]]:
        """All rows, or the first ``most``, in batches of exactly ``size``: the last begins again at the first row."""
        return [[(start + i) % len(self) for i in range(size)]
                for start in range(0, len(self) if most is None else min(len(self), most), size)]

    def take(self, rows: Sequence[int], width: int | None = None) -> dict[str, Array]:
        """The batch of ``rows``: arrays with that leading size.

        Padded inputs are trimmed to the longest of the rows, or brought to ``width`` columns.
        """
        index = np.asarray(rows, dtype=np.int64)
        batch = {name: np.asarray(column[index]) for name, column in self._columns.items()}
        if self._padding:
            columns = width or int(self.lengths[index].max())
            for name, pad in self._padding.items():
                batch[name] = _to_width(batch[name], columns, pad)
        return batch


def _strings(data: npt.NDArray[np.uint8], layout: npt.NDArray[np.int64]) -> Array:
    rank = int(layout[0])
    shape, ends = layout[1:1 + rank], layout[1 + rank:]
    raw = data.tobytes()
    texts = np.array([raw[a:b] for a, b in itertools.pairwise(ends)] + [b""], dtype=object)[:-1]
    return texts.reshape(shape)


def _to_width(array: Array, width: int, pad: int) -> Array:
    if array.shape[1] >= width:
        return np.ascontiguousarray(array[:, :width])
    fill = [(0, 0), (0, width - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, fill, constant_values=pad)
