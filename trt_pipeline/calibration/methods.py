"""Which part of what a tensor was seen to hold int8 is to cover.

More than that is clipped; the less is covered, the finer are the steps. Every range lies within the
smallest and the largest value seen. A tensor that held nothing but zeros has the range (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trt_pipeline.calibration.histogram import Histogram
from trt_pipeline.calibration.ranges import Method, Range

Floats = npt.NDArray[np.float64]
_STEPS = 255
# Of the search for the least divergence.
_WINDOW_BINS, _LEVELS, _ALMOST_NONE = 1024, 128, 1e-4
# Below so many bins a level, a histogram and its copy in 128 levels hardly differ, whatever is clipped.
_TOO_COARSE, _FEW, _ZOOM = 2, 1e-4, 4
_MOST_ROUNDS = 100


def range_of(histogram: Histogram, method: Method, percentile: float = 99.99) -> Range:
    """The range (low, high) that int8 is to cover, by ``method``.

    Args:
        percentile: share of the elements that it covers, in percent, for the method of this name.

    Raises:
        ValueError: nothing was counted.
    """
    if not histogram.count:
        raise ValueError("a tensor that was never seen has no range")
    if method == "percentile":
        return by_percentile(histogram, percentile)
    return {"minmax": by_minmax, "entropy": by_entropy, "mse": by_mse}[method](histogram)


def by_minmax(histogram: Histogram) -> Range:
    """All that was seen, to the bit."""
    return histogram.low, histogram.high


def by_percentile(histogram: Histogram, percentile: float = 99.99) -> Range:
    """All but the outermost elements, half of them at either end; the range ends where a bin does.

    At least ``percentile`` percent of the elements lie within, and no bin could be left out more.
    """
    cells = cells_of(histogram)
    outside = (1 - percentile / 100) / 2 * histogram.count
    seen = np.cumsum(cells.counts)
    # The first cell whose end leaves no more than 'outside' above it, and the last that leaves so many below.
    last = int(np.searchsorted(seen, histogram.count - outside, side="left"))
    first = int(np.searchsorted(seen, outside, side="right"))
    return _clipped(histogram, cells.low[min(first, last)], cells.high[last])


def by_entropy(histogram: Histogram) -> Range:
    """The magnitude t whose range (-t, t) keeps most of the information: that of least KL divergence.

    As TensorRT's entropy calibration (S. Migacz, "8-bit Inference with TensorRT", GPU Technology
    Conference 2017, "Entropy Calibration - pseudocode"), over a histogram of magnitudes: for every i of
    at least 128 bins, P is the first i bins with all that lies beyond added to the last of them, Q is the
    same bins without it, brought to 128 levels and spread again over those that are not empty in P; the i
    with the least sum of P log(P / Q) is taken, both scaled to 1. Where Q is empty and P is not, which the
    pseudocode leaves open, Q is 0.0001 elements, as in ONNX Runtime's `get_entropy_threshold`.

    Two things differ. Zeros are left out, as they are exact whatever is clipped (others overwrite the
    first bin for the same end). And 1024 bins of equal width tell little where a few huge values set the
    width: as long as less than one element in 10,000 lies beyond a quarter of the bins, or the best i has
    less than two bins a level, bins become a quarter as wide.
    """
    counts, edges = histogram.positive + histogram.negative, histogram.edges
    used = np.flatnonzero(counts)
    if used.size == 0:
        return histogram.low, histogram.high
    window = 2.0 ** np.ceil(np.log2(edges[used[-1] + 1]))
    while True:
        width = window / _WINDOW_BINS
        bins = np.minimum(edges[:-1] / width, _WINDOW_BINS).astype(np.int64)
        # The last of these is everything beyond the window.
        binned = np.bincount(bins, counts, minlength=_WINDOW_BINS + 1).astype(np.float64)
        last = width <= edges[1] * _ZOOM
        if last or binned[_WINDOW_BINS // _ZOOM:].sum() >= _FEW * binned.sum():
            kept = _least_divergence(binned)
            if last or kept >= _TOO_COARSE * _LEVELS:
                return _clipped(histogram, -kept * width, kept * width)
        window /= _ZOOM


def _least_divergence(counts: Floats) -> int:
    """How many of the bins to keep, the last one (what is beyond them) not among them."""
    sizes = np.arange(_LEVELS, len(counts))
    ends = sizes[:, None] * np.arange(_LEVELS + 1) // _LEVELS  # of the levels, (candidates, levels + 1)
    inside = np.concatenate([[0.0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    total, kept = inside[-1], inside[sizes]
    last, beyond = counts[sizes - 1], total - kept
    level, number = np.diff(inside[ends]), np.diff(filled[ends])
    number[:, -1] += (last == 0) & (beyond > 0)
    spread = np.divide(level, number, out=np.full_like(level, _ALMOST_NONE), where=level > 0)
    # Of P as it is without what lies beyond, then the difference that this makes in the last bin.
    entropy = np.concatenate([[0.0], np.cumsum(_x_log_x(counts))])[sizes]
    cross = (level * np.log(spread)).sum(axis=1)
    entropy += _x_log_x(last + beyond) - _x_log_x(last)
    cross += beyond * np.log(spread[:, -1])
    divergence = (entropy - cross) / total - np.log(total) + np.log(np.maximum(kept, _ALMOST_NONE))
    divergence = np.round(divergence, 12)  # sums in another order are no reason to clip more
    return int(sizes[len(sizes) - 1 - np.argmin(divergence[::-1])])


def _x_log_x(x: Floats) -> Floats:
    return np.asarray(x * np.log(np.where(x > 0, x, 1.0)), np.float64)


def by_mse(histogram: Histogram) -> Range:
    """The range with the least expected squared error of asymmetric int8, 255 steps from low to high.

    See `expected_error`. The ends are bins' ends, found one at a time, in turns, until neither moves.
    """
    cells = cells_of(histogram)
    lows = np.concatenate([[histogram.low], np.maximum(cells.low, histogram.low)[cells.low <= 0]])
    highs = np.concatenate([[histogram.high], np.minimum(cells.high, histogram.high)[cells.high >= 0]])
    lows, highs = np.unique(np.minimum(lows, histogram.high)), np.unique(np.maximum(highs, histogram.low))
    error = _Error(cells)
    low, high = histogram.low, histogram.high
    for _ in range(_MOST_ROUNDS):
        before = low, high
        for _ in range(2):
            fitting = highs[highs >= low]
            high = float(fitting[::-1][np.argmin(error(np.full_like(fitting, low), fitting)[::-1])])
            fitting = lows[lows <= high]
            low = float(fitting[np.argmin(error(fitting, np.full_like(fitting, high)))])
        if (low, high) == before:
            break
    return _clipped(histogram, low, high)


def expected_error(histogram: Histogram, low: float, high: float) -> float:
    """The expected squared error of an element when int8 covers (low, high), widened to include 0.

    A value within is off by a twelfth of the squared step, or, nearer to 0 than half a step, by itself; one
    beyond an end by its distance from it. Zeros are exact. Values count as the middle of their bin.
    """
    return float(_Error(cells_of(histogram))(np.array([low]), np.array([high]))[0])


@dataclass(frozen=True)
class Cells:
    """The bins that are not empty, and the zeros, in ascending order; (N,) each."""

    low: Floats
    high: Floats
    counts: npt.NDArray[np.int64]


def cells_of(histogram: Histogram) -> Cells:
    """What was counted, cell by cell."""
    edges = histogram.edges
    below, above = np.flatnonzero(histogram.negative)[::-1], np.flatnonzero(histogram.positive)
    zero = [0.0] if histogram.zeros else []
    return Cells(np.concatenate([-edges[below + 1], zero, edges[above]]),
                 np.concatenate([-edges[below], zero, edges[above + 1]]),
                 np.concatenate([histogram.negative[below], np.array([histogram.zeros] * len(zero), np.int64),
                                 histogram.positive[above]]))


class _Error:
    """`expected_error` of many ranges at once, from running sums over the cells."""

    def __init__(self, cells: Cells) -> None:
        self._middles = (cells.low + cells.high) / 2
        self._sums = [np.concatenate([[0.0], np.cumsum(cells.counts * self._middles ** power)]) for power in range(3)]

    def __call__(self, low: Floats, high: Floats) -> Floats:
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        step = (high - low) / _STEPS
        first, last = np.searchsorted(self._middles, low), np.searchsorted(self._middles, high, side="right")
        from_zero = np.maximum(np.searchsorted(self._middles, -step / 2), first)
        to_zero = np.maximum(np.minimum(np.searchsorted(self._middles, step / 2, side="right"), last), from_zero)
        number, total, square = self._sums
        error = (number[from_zero] - number[first] + number[last] - number[to_zero]) * step ** 2 / 12
        error += square[to_zero] - square[from_zero]
        start, stop = np.zeros_like(first), np.full_like(last, len(number) - 1)
        for begin, end, bound in ((start, first, low), (last, stop, high)):
            error += (square[end] - square[begin] - 2 * bound * (total[end] - total[begin])
                      + bound ** 2 * (number[end] - number[begin]))
        return np.asarray(error / number[-1], np.float64)


def _clipped(histogram: Histogram, low: float, high: float) -> Range:
    return (float(min(max(low, histogram.low), histogram.high)), float(max(min(high, histogram.high), histogram.low)))
