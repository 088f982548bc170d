"""A histogram is a function of the multiset of the data: order, batches and merges do not show."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trt_pipeline.calibration.histogram import _BLOCK, OCTAVES, Extent, Histogram

HUGE = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).smallest_subnormal)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
MIXED = st.one_of(NUMBERS, st.sampled_from([0.0, -0.0, TINY, -TINY, HUGE, -HUGE, 1.0, -1.0, 2.0, 0.5]),
                  st.floats(-2, 2, width=32))
DATA = arrays.arrays(np.float32, st.integers(0, 60), elements=MIXED)


def counted(*parts: Any) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(np.asarray(part, np.float32))
    return made


@settings(max_examples=150, deadline=None)
@given(DATA, st.randoms(use_true_random=False), st.lists(st.integers(0, 60), max_size=5))
@example(np.array([TINY, HUGE, -TINY, 0.0], np.float32), __import__("random").Random(0), [1, 2])
def test_order_batches_and_merges_do_not_show(data: np.ndarray, random: Any, cuts: list[int]) -> None:
    expected = counted(data)
    shuffled = data[random.sample(range(len(data)), len(data))]
    parts = np.split(shuffled, sorted(min(cut, len(data)) for cut in cuts))
    assert counted(*parts) == expected
    merged = Histogram()
    for part in random.sample(parts, len(parts)):
        merged.merge(counted(part))
    assert merged == expected


@settings(max_examples=100, deadline=None)
@given(DATA.filter(len))
def test_every_element_is_in_its_bin(data: np.ndarray) -> None:
    made = counted(data)
    values = data.astype(np.float64)
    for side, magnitudes in ((made.positive, values[values > 0]), (made.negative, -values[values < 0])):
        np.testing.assert_array_equal(side, np.histogram(_just_below(magnitudes, made.edges), made.edges)[0])
    assert made.zeros == np.count_nonzero(data == 0)
    assert made.count == data.size == made.zeros + made.positive.sum() + made.negative.sum()


def _just_below(magnitudes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The last bin of numpy's is closed at both ends, and nothing may lie there."""
    assert (magnitudes < edges[-1]).all()
    return magnitudes


@settings(max_examples=100, deadline=None)
@given(DATA.filter(len))
def test_the_extent_is_exact(data: np.ndarray) -> None:
    for made in (counted(data), Extent()):
        made.add(data) if made.count == 0 else None
        assert (made.low, made.high) == (float(data.min()), float(data.max()))


def test_bins_ascend_and_none_is_wider_than_its_share_of_an_octave() -> None:
    for top in (1.5, HUGE, TINY, 1e-38, 0.0):
        edges = counted([top]).edges
        assert (np.diff(edges) > 0).all()
        assert edges[0] == 0 and edges[-1] > top
    edges = counted([1.5]).edges
    assert (np.diff(edges[1:]) <= edges[1:-1] / 512).all()
    assert edges[1] == 2.0 ** (1 - OCTAVES)


def test_a_larger_value_changes_no_count_of_what_it_does_not_push_out() -> None:
    data = np.linspace(0.5, 1, 1000, endpoint=False, dtype=np.float32)
    before, after = counted(data), counted(data, [1e4])
    np.testing.assert_array_equal(before.positive[before.positive > 0], after.positive[after.positive > 0][:-1])


def test_more_than_a_block_is_counted_whole() -> None:
    data = np.random.default_rng(0).normal(size=(3, _BLOCK // 2 + 1, 1)).astype(np.float32)
    data[2, -1] = 1e6
    assert counted(data) == counted(data[::-1, ::-1])
    assert counted(data).count == data.size


def test_nothing_is_no_data() -> None:
    empty = counted(np.zeros((0, 3)))
    assert empty == Histogram() and empty.count == 0
    made = counted([-3.0, -2.0])
    made.merge(empty)
    assert (made.low, made.high) == (-3, -2)
    empty.merge(made)
    assert (empty.low, empty.high) == (-3, -2)


def test_only_zeros() -> None:
    made = counted([0.0, -0.0, 0.0])
    assert (made.zeros, made.count, made.low, made.high) == (3, 3, 0, 0)
    assert not made.positive.any() and not made.negative.any()
    assert not np.signbit(made.low)


@pytest.mark.parametrize("odd", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told_and_left_out(odd: float) -> None:
    for kind in (Extent, Histogram):
        made = kind()
        assert made.add(np.array([1, -2], np.float32)) is True
        assert made.add(np.array([5, odd, 0.5], np.float32)) is False
        assert made.add(np.array([odd], np.float32)) is False
        assert (made.count, made.not_finite, made.low, made.high) == (4, 2, -2, 5)
        assert made != kind()


def test_the_state_comes_back_from_a_file() -> None:
    made = counted([1.5, -2e-3, 0, 7], [np.inf])
    file = io.BytesIO()
    np.savez(file, **made.state())
    file.seek(0)
    again = Histogram.from_state(np.load(file))
    assert again == made
    again.add(np.array([100.0], np.float32))
    made.add(np.array([100.0], np.float32))
    assert again == made
    with pytest.raises(ValueError, match="bins"):
        Histogram.from_state(made.state() | {"counts": np.zeros(3)})


def test_histograms_that_differ_are_not_equal() -> None:
    assert counted([1.0]) != counted([1.0, 1.0])
    assert counted([1.0, 2.0]) != counted([1.5, 2.0]), "same extent but for the low end"
    assert counted([1.0, 1.3, 2.0]) != counted([1.0, 1.7, 2.0]), "same extent"
    with pytest.raises(TypeError):
        counted([1.0]).merge(Extent())
