"""The figures of a candidate by name, which of them is better low, and bounds on them.

    latency_p50@8            milliseconds of a request at batch size 8, as measured; also p90 and p99
    throughput@8             samples per second, as measured
    speedup_latency_p50@8    original and candidate timed in turn: how many times as fast it is; likewise of throughput
    parity                   the largest error of any output (`parity.judge.Verdict.error`)
    size_mb, memory_mb, gpu_memory_mb, load_s, first_request_s
    metric:NAME              what a metric of the user's own came to; more is better unless its bound says otherwise

Each candidate is timed next to the original, not next to the others, and a machine drifts: its milliseconds are
what this machine took then, its speedup is free of that. So a bound in milliseconds is held against what was
measured, and candidates are told apart by `compared`.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import FiniteFloat, ValidationError, field_validator, model_validator

from trt_pipeline.benchmarking.statistics import Latency, Ratio
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.suggest import did_you_mean

if TYPE_CHECKING:
    from trt_pipeline.benchmarking.interleaved import BatchResult
    from trt_pipeline.results import CandidateResult
    from trt_pipeline.run_result import RunResult

ORIGINAL = "original"
TIMED = ("latency_p50", "latency_p90", "latency_p99", "throughput")
SPEEDUP = "speedup_"
METRIC = "metric:"
_UNITS = {"parity": "", "size_mb": "MB", "memory_mb": "MB", "gpu_memory_mb": "MB", "load_s": "s",
          "first_request_s": "s"}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


class _Timed(NamedTuple):
    """A figure of the benchmark, taken apart."""

    metric: str
    batch: int
    speedup: bool


def names(result: RunResult) -> tuple[str, ...]:
    """Every figure that is known of one candidate of ``result`` or more, those of the benchmark first."""
    timed = [f"{prefix}{metric}@{size}" for size in batch_sizes(result) for prefix in ("", SPEEDUP) for metric in TIMED]
    own = sorted({METRIC + name for candidate in result.candidates for name in candidate.metrics})
    return tuple(name for name in (*timed, *_UNITS, *own)
                 if any(figure(candidate, name) is not None for candidate in result.candidates))


def batch_sizes(result: RunResult) -> tuple[int, ...]:
    """The batch sizes that ``result`` has timings of, ascending; one that is fixed stands for the objective's."""
    batches = [b for c in result.candidates if c.benchmark for b in c.benchmark.batches]
    free = {b.batch_size for b in batches if not b.fixed}
    return tuple(sorted(free or ({int(result.objective.partition("@")[2])} if batches else set())))


def resolve(result: RunResult, name: str) -> str:
    """``name`` with the objective's batch size where it needs one and names none.

    Raises:
        ConfigError: nothing of that name is a figure, or no candidate of ``result`` has it.
    """
    whole = _with_batch(name, int(result.objective.partition("@")[2]))
    timed = _parts(whole)
    known = names(result)
    if timed and timed.batch not in batch_sizes(result):
        sizes = ", ".join(map(str, batch_sizes(result)))
        raise ConfigError(f"no candidate was measured at batch size {timed.batch}: "
                          + (f"{sizes} were" if sizes else "none was timed at all"))
    if whole.startswith(METRIC) and whole not in known:
        own = [one for one in known if one.startswith(METRIC)]
        raise ConfigError(f"no candidate has the figure '{whole}': "
                          + (f"there are {', '.join(own)}{did_you_mean(whole, own)}" if own else
                             "this run had no metric of its own"))
    return whole


def figure(candidate: CandidateResult, name: str) -> float | None:
    """The figure ``name`` of ``candidate``, in its `unit`; None where it was not measured.

    Of several signatures the least favourable counts: the longest latency, the lowest throughput, and the speedup
    that is least certain to be above 1. The original's speedup is 1 by definition.

    Raises:
        ConfigError: there is no such figure.
    """
    timed = _parts(name)
    if timed and timed.speedup:
        one = interval(candidate, name)
        return one.value if one else None
    if timed:
        return _worst(timed.metric, (measured(b.candidate, timed.metric) for b in timings(candidate, timed.batch)))
    if name.startswith(METRIC):
        value = candidate.metrics.get(name.removeprefix(METRIC))
        return None if value is None or math.isnan(value) else value
    return _of_candidate(candidate, name)


def _of_candidate(candidate: CandidateResult, name: str) -> float | None:
    """A figure of `_UNITS`."""
    benchmark = candidate.benchmark
    if name == "parity":
        return candidate.verdict.error if candidate.verdict else None
    if name == "size_mb":
        return candidate.size_bytes / 1e6 or None
    if benchmark is None:
        return None
    return {"memory_mb": benchmark.peak_memory_mb, "gpu_memory_mb": benchmark.gpu_memory_mb,
            "load_s": benchmark.load_s, "first_request_s": benchmark.first_request_s}[name]


def compared(candidate: CandidateResult, name: str, among: Iterable[CandidateResult]) -> float | None:
    """As `figure`, fit to tell ``candidate`` from the others ``among`` which it is.

    A latency or throughput is where it would have been had all been timed at once: the original's typical one
    (the median of what it took next to each of them) over the ratio of the two.
    """
    timed = _parts(name)
    if timed is None or timed.speedup:
        return figure(candidate, name)
    originals: dict[str, list[float]] = {}
    for other in among:
        for batch in timings(other, timed.batch):
            originals.setdefault(batch.signature, []).append(measured(batch.original, timed.metric))
    levelled = []
    for batch in timings(candidate, timed.batch):
        typical = statistics.median(originals.get(batch.signature, [measured(batch.original, timed.metric)]))
        ratio = 1.0 if candidate.name == ORIGINAL else batch.ratios[timed.metric].value
        levelled.append(typical * ratio if timed.metric == "throughput" else typical / ratio)
    return _worst(timed.metric, levelled)


def speedup(candidate: CandidateResult, metric: str, batch_size: int) -> Ratio | None:
    """The original over ``candidate`` with its interval at 95 %; None where they were not timed."""
    if not timings(candidate, batch_size) or candidate.benchmark is None:
        return None
    if candidate.name == ORIGINAL:
        return Ratio(value=1.0, low=1.0, high=1.0)
    return candidate.benchmark.ratio(metric, batch_size)


def interval(candidate: CandidateResult, name: str) -> Ratio | None:
    """The figure ``name`` with its interval, where that is a speedup that was measured.

    Raises:
        ConfigError: there is no such figure.
    """
    timed = _parts(name)
    return speedup(candidate, timed.metric, timed.batch) if timed and timed.speedup else None


def timings(candidate: CandidateResult, batch_size: int) -> tuple[BatchResult, ...]:
    """What each signature took at ``batch_size``, or at its own where that is fixed; empty where one was not timed."""
    benchmark = candidate.benchmark
    if benchmark is None:
        return ()
    found = tuple(b for b in benchmark.batches if b.batch_size == batch_size or b.fixed)
    # Stopped early, some signatures may be missing: the least favourable of the others could be too good.
    wanted = {b.signature for b in benchmark.batches}
    if benchmark.stopped and candidate.artifact:
        wanted |= set(candidate.artifact.files)
    return found if wanted <= {b.signature for b in found} else ()


def better(name: str, among: Iterable[CandidateResult] = ()) -> Literal["low", "high"]:
    """Whether a low or a high value of the figure ``name`` is the better one.

    Args:
        among: candidates that know which way is up for a metric of the user's own; by default that is high.

    Raises:
        ConfigError: there is no such figure.
    """
    timed = _parts(name)
    high = timed.speedup or timed.metric == "throughput" if timed else name.startswith(METRIC)
    metric = name.removeprefix(METRIC)
    if high and metric != name and any(metric in candidate.lower_is_better for candidate in among):
        return "low"
    return "high" if high else "low"


def gain(name: str, value: float, of: CandidateResult) -> float:
    """``value`` that ``of`` has in the figure ``name``, with the sign that makes more of it better."""
    return value if better(name, (of,)) == "high" else -value


def unit(name: str) -> str:
    """The unit of the figure ``name``: ``ms``, ``/s``, ``x``, ``MB``, ``s``, or nothing.

    Raises:
        ConfigError: there is no such figure.
    """
    timed = _parts(name)
    if timed:
        return "x" if timed.speedup else "/s" if timed.metric == "throughput" else "ms"
    return _UNITS.get(name, "")


def text(name: str, value: float | None) -> str:
    """``value`` of the figure ``name`` with its unit, as in ``23.1 ms``; a dash for None."""
    if value is None:
        return "-"
    digits = f"{value:.3g}" if abs(value) < 999.5 or math.isinf(value) else f"{value:,.0f}"
    mark = unit(name)
    return f"{value:.2f}x" if mark == "x" else f"{digits} {mark}".rstrip()


def as_speed(name: str) -> tuple[str, int] | None:
    """Metric and batch size of a figure that the paired benchmark tells, so that an interval is known; else None.

    Raises:
        ConfigError: there is no such figure.
    """
    timed = _parts(name)
    return (timed.metric, timed.batch) if timed else None


class Bound(Frozen):
    """A bound on a figure, ``latency_p99@1 <= 20``; in JSON and YAML as such a text or as its parts."""

    figure: str
    at: Literal["<", "<=", ">", ">="]
    value: FiniteFloat
    """In the figure's `unit`."""

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return dict(zip(("figure", "at", "value"), _split(given), strict=True))

    @field_validator("figure")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            _parts(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name

    @classmethod
    def parse(cls, text: str, batch_size: int | None = None) -> Bound:
        """The bound that ``text`` says.

        Args:
            batch_size: that of a latency or throughput which names none.

        Raises:
            ConfigError: it is no bound, or on no figure.
        """
        try:
            name, at, value = _split(text)
            return cls.model_validate({"figure": _with_batch(name, batch_size), "at": at, "value": value})
        except ValidationError as error:
            first = error.errors()[0]
            what = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{text}: {what}" if first["loc"] == ("value",) else what) from None
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def holds(self, candidate: CandidateResult) -> bool | None:
        """Whether ``candidate`` keeps it; None where its figure was not measured."""
        value = figure(candidate, self.figure)
        return None if value is None else _COMPARISONS[self.at](value, self.value)

    def __str__(self) -> str:
        return f"{self.figure} {self.at} {self.value:.15g}"


def _parts(name: str) -> _Timed | None:
    """A figure of the benchmark taken apart; None for any other figure.

    Raises:
        ConfigError: there is no such figure.
    """
    stem, _, batch = name.partition("@")
    metric = stem.removeprefix(SPEEDUP)
    if metric in TIMED and re.fullmatch("[1-9][0-9]{0,5}", batch):
        return _Timed(metric, int(batch), stem != metric)
    if name in _UNITS or (name.startswith(METRIC) and name != METRIC):
        return None
    if metric in TIMED:
        raise ConfigError(f"the figure '{name}' needs a batch size: {stem}@1")
    timed = [prefix + metric for prefix in ("", SPEEDUP) for metric in TIMED]
    near = did_you_mean(name, [*(f"{one}@{batch or 1}" for one in timed), *_UNITS, METRIC + "NAME"])
    raise ConfigError(f"no figure '{name}'{near or '; there are ' + _listing()}")


def _with_batch(name: str, batch_size: int | None) -> str:
    """``name``, of a benchmark's figure that names no batch size with this one."""
    return f"{name}@{batch_size}" if batch_size and name.removeprefix(SPEEDUP) in TIMED else name


def _split(text: str) -> tuple[str, str, str]:
    """Figure, comparison and number of a bound. Raises ValueError where it is none."""
    found = re.fullmatch(r"\s*(.+?)\s*(<=|>=|<|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*", text)
    if not found:
        raise ValueError(f"a bound is 'FIGURE <= NUMBER', or with <, > or >=, not '{text}'")
    return found[1], found[2], found[3]


def _listing() -> str:
    return ", ".join([*(f"[{SPEEDUP}]{metric}@BATCH" for metric in TIMED), *_UNITS, METRIC + "NAME"])


def measured(side: Latency, metric: str) -> float:
    """``metric``, one of `TIMED`, of one side of the benchmark."""
    return float(getattr(side, metric.removeprefix("latency_")))


def _worst(metric: str, values: Iterable[float]) -> float | None:
    return min(values, default=None) if metric == "throughput" else max(values, default=None)
