"""Each method's range, against the plain reading of its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trt_pipeline.calibration import methods
from trt_pipeline.calibration.histogram import Histogram

NORMAL = np.random.default_rng(3).normal(size=200_000).astype(np.float32)
ALL = ("minmax", "percentile", "entropy", "mse")
DATA = arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-100, 100, width=32))


def histogram(*parts: object) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(np.asarray(part, np.float32))
    return made


@pytest.mark.parametrize("method", ALL)
@settings(max_examples=60, deadline=None)
@given(data=DATA)
def test_no_range_leaves_what_was_seen(method: methods.Method, data: np.ndarray) -> None:
    low, high = methods.range_of(histogram(data), method)
    assert data.min() <= low <= high <= data.max()


@pytest.mark.parametrize("method", ALL)
def test_special_tensors(method: methods.Method) -> None:
    assert methods.range_of(histogram(np.zeros(9)), method) == (0, 0)
    assert methods.range_of(histogram(np.full(9, 2.5)), method) == (2.5, 2.5)
    assert methods.range_of(histogram(np.full(9, -2.5)), method) == (-2.5, -2.5)
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    largest = float(np.finfo(np.float32).max)
    low, high = methods.range_of(histogram([smallest, -smallest]), method)
    assert -smallest <= low <= high <= smallest
    low, high = methods.range_of(histogram([largest, -largest, 1]), method)
    assert np.isfinite([low, high]).all()
    with pytest.raises(ValueError):
        methods.range_of(histogram(), method)


@settings(max_examples=60, deadline=None)
@given(DATA)
def test_minmax_is_numpy_s_to_the_bit(data: np.ndarray) -> None:
    assert methods.range_of(histogram(data), "minmax") == (float(data.min()), float(data.max()))


@settings(max_examples=80, deadline=None)
@given(DATA, st.floats(50.5, 100))
def test_percentile_leaves_out_no_more_than_it_may_and_all_that_it_can(data: np.ndarray, percentile: float) -> None:
    made = histogram(data)
    low, high = methods.range_of(made, "percentile", percentile)
    most = (1 - percentile / 100) / 2 * data.size
    for values, end in ((data.astype(np.float64), high), (-data.astype(np.float64), -low)):
        assert (values > end).sum() <= most + 1e-9
        # A bin less: what is left out then is everything in the bin, too.
        within = end - max(abs(end) / 500, float(np.abs(data).max()) * 2.0 ** -22)
        assert (values > within).sum() > most - 1e-9 or end == values.min() or within < values.min()


def test_percentile_100_is_minmax_and_less_is_less() -> None:
    made = histogram(NORMAL)
    assert methods.by_percentile(made, 100) == methods.by_minmax(made)
    for percentile in (99.9, 99.0, 90.0):
        low, high = methods.by_percentile(made, percentile)
        tail = (100 - percentile) / 2
        np.testing.assert_allclose([low, high], np.percentile(NORMAL, [tail, 100 - tail]), rtol=4e-3)


def test_half_of_zeros_does_not_shift_the_other_end() -> None:
    low, high = methods.by_percentile(histogram(np.maximum(NORMAL, 0)), 99.0)
    assert low == 0
    assert high == pytest.approx(np.percentile(np.maximum(NORMAL, 0), 99.5), rel=4e-3)


def divergence(counts: np.ndarray, kept: int, levels: int) -> float:
    """The text of the pseudocode, a bin at a time."""
    p = counts[:kept].astype(np.float64)
    q = np.zeros(kept)
    p[-1] += counts[kept:].sum()
    for level in range(levels):
        begin, end = kept * level // levels, kept * (level + 1) // levels
        filled = [i for i in range(begin, end) if p[i]]
        for i in filled:
            q[i] = counts[begin:end].sum() / len(filled)
    p, q = p / p.sum(), np.maximum(q, 1e-4) / max(q.sum(), 1e-4)
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


@pytest.mark.parametrize("seed", range(6))
def test_entropy_finds_the_least_divergence(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(3000 * np.exp(-np.arange(200) / (8 + 6 * seed))).astype(np.float64)
    counts[generator.integers(0, 200, 20)] = 0
    # One more: beyond the window.
    counts = np.append(counts, 7.0 if seed % 2 else 0.0)
    least = methods._least_divergence(counts)
    found = {kept: divergence(counts, kept, methods._LEVELS) for kept in range(methods._LEVELS, len(counts))}
    assert found[least] == pytest.approx(min(found.values()), abs=1e-9)


def test_entropy_clips_tails_and_keeps_what_is_flat() -> None:
    low, high = methods.by_entropy(histogram(NORMAL))
    assert 2 < high < 0.999 * NORMAL.max()
    assert -high <= low < -2
    flat = np.linspace(-1, 1, 100_001, dtype=np.float32)
    assert methods.by_entropy(histogram(flat))[1] > 0.95


@pytest.mark.parametrize("seed", range(8))
def test_mse_finds_about_the_least_error(seed: int) -> None:
    generator = np.random.default_rng(seed)
    data = generator.standard_t(2 + seed % 3, 400).astype(np.float32) + np.float32(seed % 4 - 1)
    data = np.maximum(data, 0) if seed % 2 else data
    made = histogram(data)
    low, high = methods.by_mse(made)
    found = methods.expected_error(made, low, high)
    values = np.unique(data)
    lows, highs = [v for v in values if v <= 0][:60] or [values[0]], [v for v in values if v >= 0][-60:]
    pairs = np.array([(a, b) for a, b in itertools.product(lows, highs) if a <= b], np.float64)
    best = methods._Error(methods.cells_of(made))(pairs[:, 0], pairs[:, 1]).min()
    assert found <= best * 1.01


def test_the_expected_error_is_that_of_rounding() -> None:
    made = histogram(NORMAL)
    for step in (0.04, 0.02, 0.01):
        low, high = -127 * step, 128 * step
        rounded = np.round(np.clip(NORMAL.astype(np.float64), low, high) / step) * step
        assert methods.expected_error(made, low, high) == pytest.approx(np.mean((rounded - NORMAL) ** 2), rel=0.03)


@pytest.mark.parametrize("outlier", [30.0, 1e3, 5e4])
def test_an_outlier_decides_under_minmax_only(outlier: float) -> None:
    """One in a million: nothing in int8 would be left of the rest."""
    data = np.tile(NORMAL, 5)
    made, clean = histogram(data, [outlier]), histogram(data)
    assert methods.range_of(made, "minmax") == (float(data.min()), outlier)
    assert methods.range_of(made, "percentile")[1] == pytest.approx(methods.range_of(clean, "percentile")[1], rel=0.02)
    assert 2 < methods.range_of(made, "entropy")[1] < 6


def test_mse_clips_an_outlier_when_keeping_it_costs_more() -> None:
    """Unlike entropy it weighs how far the outlier is: one of 5 in 200,000 costs 25; a step twice as wide more."""
    small = NORMAL / 10
    low, high = methods.by_mse(histogram(small, [1.0]))
    assert low > -0.5 and high < 0.9
