"""Percentiles, and a bootstrap interval for the ratio of two interleaved series."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trt_pipeline.frozen import Frozen

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_QUANTILES = 41


class Latency(Frozen):
    """Latencies of one side at one batch size, in milliseconds."""

    requests: int
    p50: float
    p90: float
    p99: float
    throughput: float
    """Samples per second: batch size times requests, over the time they took."""
    quantiles: tuple[float, ...] = ()
    """Latencies at 0 %, 2.5 %, ... 100 % of the requests, ascending (41,); none of what an older version measured."""


class Ratio(Frozen):
    """Original over candidate: above 1 the candidate is faster. The interval is at 95 %."""

    value: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        """Whether the whole interval is above 1."""
        return self.low > 1

    def __str__(self) -> str:
        return f"{self.value:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def latency(seconds: npt.NDArray[np.float64], batch_size: int) -> Latency:
    """Summary of request times ``seconds``, shape (requests,)."""
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1e3
    quantiles = np.percentile(seconds, np.linspace(0, 100, _QUANTILES)) * 1e3
    return Latency(requests=len(seconds), p50=float(p50), p90=float(p90), p99=float(p99),
                   throughput=float(batch_size * len(seconds) / seconds.sum()),
                   quantiles=tuple(quantiles.tolist()))


def ratios(original: list[npt.NDArray[np.float64]], candidate: list[npt.NDArray[np.float64]],
           seed: int = 0) -> dict[str, Ratio]:
    """Original over candidate by metric, with bootstrap intervals.

    Args:
        original, candidate: request times in seconds, one array a round; round i of both sides ran
            next to each other, so rounds are resampled in pairs and the machine's drift cancels.
    """
    generator = np.random.default_rng(seed)
    rounds = len(original)
    picks = [np.arange(rounds), *(generator.integers(0, rounds, rounds) for _ in range(_RESAMPLES))]
    metrics = {"latency_p50": 50.0, "latency_p90": 90.0, "latency_p99": 99.0}
    series: dict[str, list[float]] = {name: [] for name in (*metrics, "throughput")}
    for pick in picks:
        a = np.concatenate([original[i] for i in pick])
        b = np.concatenate([candidate[i] for i in pick])
        levels = list(metrics.values())
        for name, x, y in zip(metrics, np.percentile(a, levels), np.percentile(b, levels), strict=True):
            series[name].append(float(x / y))
        series["throughput"].append(float(a.mean() / b.mean()))
    tail = (1 - _CONFIDENCE) / 2 * 100
    found = {}
    for name, values in series.items():
        low, high = np.percentile(values[1:], [tail, 100 - tail])
        found[name] = Ratio(value=values[0], low=float(low), high=float(high))
    return found
