"""The histograms of a calibration that a reader wants to see: of few tensors, in few bins of equal width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from trt_pipeline.calibration.facts import TensorHistogram
from trt_pipeline.calibration.histogram import Extent, Histogram
from trt_pipeline.calibration.methods import cells_of
from trt_pipeline.calibration.ranges import Range

BINS = 48
MOST_TENSORS = 12


def histogram(signature: str, tensor: str, counted: Histogram, covered: Range) -> TensorHistogram:
    """``counted`` in 48 bins from the smallest to the largest value seen; values count as the middle of theirs.

    Args:
        covered: what int8 covers of the tensor.
    """
    cells = cells_of(counted)
    low, high = counted.low, counted.high
    middles = np.clip((cells.low + cells.high) / 2, low, high)
    place = ((middles - low) / (high - low) * BINS).astype(np.int64) if high > low else np.zeros(len(middles), np.int64)
    counts = np.zeros(BINS, np.int64)
    np.add.at(counts, np.minimum(place, BINS - 1), cells.counts)
    outside = cells.counts[(middles < covered[0]) | (middles > covered[1])].sum()
    return TensorHistogram(signature=signature, tensor=tensor, low=low, high=high, range=covered,
                           clipped=float(outside / counted.count), counts=tuple(counts.tolist()))


def most_telling(counts: Mapping[str, Mapping[str, Extent]],
                 ranges: Mapping[str, Mapping[str, Range]]) -> tuple[TensorHistogram, ...]:
    """Up to 12 histograms: of the tensors that lose the largest share of their elements by their range, then of those
    that span most.

    Args:
        counts: signature -> tensor -> what was counted; only a `Histogram` can be shown.
        ranges: signature -> tensor -> what int8 covers of it.
    """
    def known() -> Iterator[TensorHistogram]:
        for signature, tensors in counts.items():
            for name, one in tensors.items():
                if isinstance(one, Histogram) and one.count and name in ranges[signature]:
                    yield histogram(signature, name, one, ranges[signature][name])

    ordered = sorted(known(), key=lambda one: (-one.clipped, one.low - one.high, one.signature, one.tensor))
    return tuple(ordered[:MOST_TENSORS])
