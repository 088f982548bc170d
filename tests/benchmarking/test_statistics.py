"""Percentiles by hand, and an interval that says 'faster' only where it is so."""

from __future__ import annotations

import numpy as np
import pytest

from trt_pipeline.benchmarking.statistics import Latency, Ratio, latency, ratios

METRICS = ["latency_p50", "latency_p90", "latency_p99", "throughput"]
Series = list[np.ndarray]


def rounds(scale: float = 1.0, seed: int = 0, drift: np.ndarray | None = None) -> Series:
    """20 rounds of 10 requests of 10 ms, give or take 5 %, times what the machine does in each round."""
    times = 0.01 * scale * np.random.default_rng(seed).normal(1.0, 0.05, (20, 10))
    return list(times if drift is None else times * drift[:, None])


def test_percentiles_of_a_hundred_and_one_requests() -> None:
    seconds = np.arange(101)[::-1] / 1000  # 0 to 100 ms, so that percentile n is n ms
    found = latency(seconds, batch_size=4)
    assert found.model_dump(exclude={"quantiles"}) == pytest.approx(
        {"requests": 101, "p50": 50.0, "p90": 90.0, "p99": 99.0, "throughput": 4 * 101 / 5.05})
    assert found.quantiles == pytest.approx(np.arange(0, 102.5, 2.5))


def test_percentiles_lie_between_requests_where_they_must() -> None:
    found = latency(np.array([0.001, 0.002, 0.003, 0.005]), batch_size=1)
    # Places 1.5, 2.7 and 2.97 of 0..3.
    assert (found.p50, found.p90, found.p99) == pytest.approx((2.5, 4.4, 4.94))


def test_one_request_is_every_percentile() -> None:
    assert latency(np.array([0.004]), batch_size=8) == Latency(requests=1, p50=4, p90=4, p99=4, throughput=2000,
                                                               quantiles=(4,) * 41)


@pytest.mark.parametrize("metric", METRICS)
def test_the_ratio_is_original_over_candidate(metric: str) -> None:
    found = ratios([np.array([0.004])] * 10, [np.array([0.001])] * 10)[metric]
    assert (found.value, found.low, found.high) == (4.0, 4.0, 4.0)
    assert found.faster


@pytest.mark.parametrize("seed", range(3))
def test_equal_series_are_not_faster(seed: int) -> None:
    found = ratios(rounds(seed=seed), rounds(seed=seed + 100))
    for name in ("latency_p50", "throughput"):
        assert found[name].low < 1.02
        assert found[name].high > 0.98
    same = ratios(rounds(seed=seed), rounds(seed=seed))
    assert all(r.low <= r.value == 1.0 <= r.high and not r.faster for r in same.values())


def test_the_interval_of_two_equal_series_contains_one() -> None:
    """At 95 %, one of 12 may miss; 3 would be a broken interval."""
    missed = sum(not r.low <= 1 <= r.high for seed in range(12)
                 if (r := ratios(rounds(seed=seed), rounds(seed=seed + 500))["latency_p50"]))
    assert missed < 3


@pytest.mark.parametrize("metric", METRICS)
def test_twice_the_speed_is_faster_and_the_interval_says_how_much(metric: str) -> None:
    found = ratios(rounds(scale=2.0, seed=1), rounds(seed=2))[metric]
    assert found.faster
    assert 1.7 < found.low <= found.value <= found.high < 2.3


def test_half_the_speed_is_not_faster() -> None:
    found = ratios(rounds(seed=1), rounds(scale=2.0, seed=2))["throughput"]
    assert found.high < 0.6
    assert not found.faster


def test_drift_that_both_sides_see_cancels() -> None:
    """The machine slows down to a quarter over the run; a candidate that is 10 % faster still shows it."""
    drift = np.linspace(1, 4, 20)
    found = ratios(rounds(1.1, seed=1, drift=drift), rounds(seed=2, drift=drift))["throughput"]
    assert found.faster
    assert found.high - found.low < 0.1
    # Had the rounds not been paired, that drift would drown the difference.
    shuffled = list(np.random.default_rng(0).permutation(np.array(rounds(seed=2, drift=drift))))
    unpaired = ratios(rounds(1.1, seed=1, drift=drift), shuffled)["throughput"]
    assert unpaired.high - unpaired.low > 3 * (found.high - found.low)


def test_the_same_series_give_the_same_interval() -> None:
    assert ratios(rounds(seed=1), rounds(seed=2)) == ratios(rounds(seed=1), rounds(seed=2))
    assert ratios(rounds(seed=1), rounds(seed=2), seed=1) != ratios(rounds(seed=1), rounds(seed=2))


def test_rounds_may_have_different_numbers_of_requests() -> None:
    found = ratios([np.full(3, 0.002), np.full(5, 0.002)], [np.full(3, 0.001), np.full(5, 0.001)])
    assert found["latency_p50"].value == 2.0


def test_an_interval_that_touches_one_is_not_faster() -> None:
    assert not Ratio(value=1.2, low=1.0, high=1.4).faster
    assert Ratio(value=1.2, low=1.001, high=1.4).faster
    assert str(Ratio(value=1.234, low=1.1, high=1.4)) == "1.23x [1.10, 1.40]"
