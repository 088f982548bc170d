"""What a report shows of a calibration: few histograms, those that a range cuts into first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_pipeline.calibration import equal_bins, ranges
from trt_pipeline.calibration.facts import CalibrationFacts
from trt_pipeline.calibration.histogram import Extent, Histogram
from trt_pipeline.calibration.ranges import RangesFile, SignatureRanges


def counted(*values: Any) -> Histogram:
    made = Histogram()
    made.add(np.array(values, np.float32).ravel())
    return made


def test_counts_in_equal_bins_and_what_is_clipped() -> None:
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    made = equal_bins.histogram("serve", "x:0", counted(values), (-1.0, 2.0))
    assert (made.low, made.high, sum(made.counts)) == (values.min(), values.max(), values.size)
    expected, _ = np.histogram(values, 48, (made.low, made.high))
    # A bin of the calibration's own, 1/512 of an octave wide, may lie across the end of an equal one.
    assert np.abs(np.array(made.counts) - expected).sum() < 0.01 * values.size
    assert made.clipped == pytest.approx(np.mean((values < -1) | (values > 2)), abs=1e-3)
    assert equal_bins.histogram("serve", "x:0", counted(values), (made.low, made.high)).clipped == 0


@pytest.mark.parametrize(("values", "first", "last"), [
    ([0, 0, 0], 3, 0),
    ([5, 5], 2, 0),
    ([-3e38, 3e38], 1, 1),
    ([-1, 0, 1], 1, 1),
])
def test_bins_of_odd_tensors(values: list[float], first: int, last: int) -> None:
    made = equal_bins.histogram("serve", "x:0", counted(values), (min(values), max(values)))
    assert (len(made.counts), sum(made.counts), made.counts[0], made.counts[-1]) == (48, len(values), first, last)
    assert made.clipped == 0


def test_what_loses_most_comes_first_and_then_the_widest() -> None:
    tensors: dict[str, Extent] = {f"w{width}:0": counted(0, width) for width in range(1, 21)}
    tensors |= {"extent:0": Extent(), "unseen:0": Histogram(), "half:0": counted(0, 1), "third:0": counted(0, 1, 2)}
    covered: dict[str, tuple[float, float]] = {name: (0, 100) for name in tensors}
    covered |= {"half:0": (0, 0.5), "third:0": (0, 1.5)}
    found = equal_bins.most_telling({"serve": tensors}, {"serve": covered})
    assert [one.tensor for one in found] == ["half:0", "third:0", *(f"w{width}:0" for width in range(20, 10, -1))]
    assert [round(one.clipped, 2) for one in found[:3]] == [0.5, 0.33, 0]


def test_they_come_back_from_the_ranges_file_and_an_older_file_has_none(tmp_path: Path) -> None:
    shown = equal_bins.histogram("serve", "x:0", counted(0.1, 2), (0, 1))
    serve = SignatureRanges(ranges={"x:0": (0, 1)}, extents={"x:0": (0.1, 2), "y:0": (0, 0)})
    found = RangesFile(method="entropy", model_digest="m", samples_digest="s", count=3, signatures={"serve": serve},
                       histograms=(shown,))
    file = tmp_path / "ranges.json"
    ranges.write(file, found)
    assert ranges.read(file, "m") == found
    assert sum('"counts"' in line for line in file.read_text().splitlines()) == 1
    expected = CalibrationFacts(method="entropy", samples=3, tensors={"serve": 2}, histograms=(shown,))
    assert ranges.read(file, "m").facts == expected
    ranges.write(file, found.model_copy(update={"histograms": ()}))
    assert "histograms" not in file.read_text()
    assert ranges.read(file, "m").facts == expected.model_copy(update={"histograms": ()})
