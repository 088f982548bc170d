"""How often a tensor takes which values, in bounded memory, and the same whatever the order of the data.

A bin holds the float32 numbers that share sign, exponent and the first mantissa bits, so counting is
integer arithmetic on the numbers' own bits: nothing is rounded, and no processor flag for denormal
numbers (TensorFlow sets one on its threads) changes the result. Bins get narrower towards zero, so a
single huge value takes no resolution from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MANTISSA_BITS = 9
"""An octave, from one power of two to the next, has two to the power of this many bins."""
OCTAVES = 24
"""Octaves that have bins, from the largest magnitude seen down; what is smaller shares one bin a sign."""
_SIDE = (OCTAVES << MANTISSA_BITS) + 1
_SHIFT = 23 - MANTISSA_BITS
_MAGNITUDE, _SIGN, _INFINITY = 0x7FFFFFFF, 0x80000000, 0x7F800000
# Its int32 copies fit in a core's own cache.
_BLOCK = 1 << 16


class Extent:
    """The smallest and the largest finite value of all float32 data added, and how much of it there was."""

    def __init__(self) -> None:
        self.count = 0
        """Finite elements."""
        self.not_finite = 0
        """NaN and infinite elements; ``low`` and ``high`` leave them out."""
        self._low = self._high = 0

    @property
    def low(self) -> float:
        """The smallest finite value, a float32; 0 where there was none."""
        return float(np.int32(_unkeyed(self._low)).view(np.float32)) + 0.0  # no negative zero

    @property
    def high(self) -> float:
        """The largest finite value, a float32; 0 where there was none."""
        return float(np.int32(_unkeyed(self._high)).view(np.float32)) + 0.0

    def add(self, values: Array) -> bool:
        """Count ``values``, float32 of any shape; False where some of them are NaN or infinite."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        finite = True
        for start in range(0, flat.size, _BLOCK):
            finite &= self._add_block(flat[start:start + _BLOCK])[1]
        return finite

    def merge(self, other: Extent) -> None:
        """Count what ``other`` counted, too."""
        if other.count:
            self._widen(other._low, other._high)
        self.count += other.count
        self.not_finite += other.not_finite

    def state(self) -> dict[str, Array]:
        """Everything, as arrays; `from_state` is the way back."""
        return {"extent": np.array([self.count, self.not_finite, self._low, self._high], np.int64)}

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> Extent:
        """What `state` was taken of."""
        made = cls()
        made._restore(state)
        return made

    def _restore(self, state: Mapping[str, Array]) -> None:
        self.count, self.not_finite, self._low, self._high = (int(number) for number in state["extent"])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, others = self.state(), other.state()
        return all(np.array_equal(mine[key], others[key]) for key in mine)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _add_block(self, block: Array) -> tuple[Array, bool]:
        """Count one block; returns the bits of its finite elements, int32, and whether that is all of them."""
        bits = block.view(np.int32)
        low, high = _ends(bits)
        finite = not (bits.size and (high >= _INFINITY or low <= -_INFINITY))
        if not finite:
            bits = bits[(bits & _MAGNITUDE) < _INFINITY]
            self.not_finite += block.size - bits.size
            low, high = _ends(bits)
        if bits.size:
            self._widen(low, high)
            self.count += bits.size
        return bits, finite

    def _widen(self, low: int, high: int) -> None:
        self._low, self._high = (min(self._low, low), max(self._high, high)) if self.count else (low, high)


class Histogram(Extent):
    """The counts of all float32 data added, in bins, and its exact extent.

    The state is a function of the multiset of the data alone: the order of `add` and `merge` and how
    the data was split between them do not show. Zeros are counted apart, and stand in no bin.
    """

    def __init__(self) -> None:
        super().__init__()
        self.zeros = 0
        self._counts = np.zeros(2 * _SIDE, np.int64)  # a side for positive numbers, then one for negative
        # The exponent field of the largest magnitude, or the least for which no denormal number has a bin of its own.
        self._top = OCTAVES

    @property
    def positive(self) -> npt.NDArray[np.int64]:
        """Counts of the positive numbers between one of `edges` and the next; what equals an edge is above it."""
        return self._counts[:_SIDE]

    @property
    def negative(self) -> npt.NDArray[np.int64]:
        """Counts of the negative numbers, by their magnitude, as `positive`."""
        return self._counts[_SIDE:]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Magnitudes at which the bins begin and end, ascending from 0, float64 (bins a side + 1,)."""
        first = (self._top - OCTAVES + 1) << MANTISSA_BITS
        patterns = np.arange(first, first + _SIDE, dtype=np.int64)
        exponents, mantissas = patterns >> MANTISSA_BITS, patterns & ((1 << MANTISSA_BITS) - 1)
        return np.concatenate([[0.0], np.ldexp(1 + mantissas / (1 << MANTISSA_BITS), exponents - 127)])

    def merge(self, other: Extent) -> None:
        """Count what ``other`` counted, too. Raises TypeError where it is no `Histogram`."""
        if not isinstance(other, Histogram):
            raise TypeError(f"a Histogram cannot count what a {type(other).__name__} knows")
        super().merge(other)
        self.zeros += other.zeros
        self._rise(other._top)
        self._counts += _risen(other._counts, self._top - other._top)

    def state(self) -> dict[str, Array]:
        """Everything, as arrays; `from_state` is the way back."""
        return super().state() | {"counts": self._counts.copy(), "bins": np.array([self.zeros, self._top], np.int64)}

    def _restore(self, state: Mapping[str, Array]) -> None:
        super()._restore(state)
        self.zeros, self._top = (int(number) for number in state["bins"])
        self._counts = np.array(state["counts"], np.int64)
        if self._counts.shape != (2 * _SIDE,):
            raise ValueError(f"{self._counts.size} bins, not {2 * _SIDE}")

    def _add_block(self, block: Array) -> tuple[Array, bool]:
        bits, finite = super()._add_block(block)
        if bits.size == 0:
            return bits, finite
        self._rise(max(self._high, -self._low) >> 23)
        # Index 0 of a side takes whatever is smaller than its first bin.
        index = bits & _MAGNITUDE
        index >>= _SHIFT
        index -= ((self._top - OCTAVES + 1) << MANTISSA_BITS) - 1
        np.maximum(index, 0, out=index)
        below = bits >> 31  # -1 for what has a minus sign
        below &= _SIDE
        index += below
        self._counts += np.bincount(index, minlength=2 * _SIDE)
        zeros = np.count_nonzero(bits == 0)
        below_zeros = np.count_nonzero(bits == np.int32(-_SIGN))
        self._counts[0] -= zeros
        self._counts[_SIDE] -= below_zeros
        self.zeros += zeros + below_zeros
        return bits, finite

    def _rise(self, top: int) -> None:
        if top > self._top:
            self._counts = _risen(self._counts, top - self._top)
            self._top = top


def _risen(counts: npt.NDArray[np.int64], octaves: int) -> npt.NDArray[np.int64]:
    """Counts by bins that begin so many octaves higher: what falls below them joins index 0."""
    if octaves == 0:
        return counts
    gone = min(octaves << MANTISSA_BITS, _SIDE - 1)
    before, after = counts.reshape(2, _SIDE), np.zeros((2, _SIDE), np.int64)
    after[:, 0] = before[:, :gone + 1].sum(axis=1)
    after[:, 1:_SIDE - gone] = before[:, gone + 1:]
    return after.ravel()


def _ends(bits: npt.NDArray[np.int32]) -> tuple[int, int]:
    """Keys of the smallest and the largest of float32 numbers, given as their bits; (0, 0) of none.

    A number's key is its magnitude's bits with its sign, so keys are ordered as the numbers are.
    """
    if bits.size == 0:
        return 0, 0
    # Among numbers with a minus sign, which as int32 come before all others, bits ascend as magnitudes do.
    largest = int(bits.max())
    high = largest if largest >= 0 else -(int(bits.min()) & _MAGNITUDE)
    farthest = int(bits.view(np.uint32).max())
    low = -(farthest & _MAGNITUDE) if farthest >= _SIGN else int(bits.min())
    return low, high


def _unkeyed(key: int) -> int:
    """The bits, as an int32, of the number with this key."""
    return key if key >= 0 else -key - _SIGN
