"""Numbers as people read them: short, with their unit, and a dash where there is none."""

from __future__ import annotations

import math

from trt_pipeline.benchmarking.statistics import Ratio

NONE = "-"
# `compare` reports an output without any error at this signal-to-noise ratio, which JSON can hold.
_ERROR_FREE_DB = 300.0


def milliseconds(value: float | None) -> str:
    """A latency given in milliseconds."""
    if value is None:
        return NONE
    return f"{_three_digits(value)} ms" if value >= 0.1 or value <= 0 else f"{value:.3g} ms"


def seconds(value: float | None) -> str:
    """A duration given in seconds; minutes where it is long."""
    if value is None:
        return NONE
    if value >= 120:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{_three_digits(value)} s" if value >= 0.1 or value == 0 else f"{_three_digits(value * 1e3)} ms"


def size(count: float | None) -> str:
    """A number of bytes, in decimal units; a dash for none."""
    if not count:
        return NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def megabytes(value: float | None) -> str:
    """A memory given in megabytes."""
    return NONE if value is None else f"{value:,.0f} MB"


def rate(value: float | None) -> str:
    """Samples per second."""
    return NONE if value is None else f"{_three_digits(value)} /s"


def error(value: float | None) -> str:
    """An error, absolute or as a share: two digits, and a plain 0 for none at all."""
    return NONE if value is None else "0" if value == 0 else f"{value:.2g}"


def share(value: float | None) -> str:
    """A share in per cent, rounded down, so that only a whole one reads 100 %."""
    return NONE if value is None else f"{math.floor(round(value * 1e4, 6)) / 1e2:g} %"


def cosine(value: float | None) -> str:
    """A cosine similarity, cut after six places, so that only an equal one reads 1."""
    return NONE if value is None else f"{math.floor(round(value * 1e6, 3)) / 1e6:.7g}"


def decibels(value: float | None) -> str:
    """A signal-to-noise ratio."""
    if value is None or abs(value) >= _ERROR_FREE_DB:
        return NONE if value is None else "no error" if value > 0 else "no signal"
    return f"{value:.1f} dB"


def times(value: float) -> str:
    """One end or the middle of a ratio."""
    return f"{_three_digits(value)}x"


def ratio(value: Ratio | None) -> str:
    """A ratio with its interval."""
    if value is None:
        return NONE
    return f"{times(value.value)} [{_three_digits(value.low)}, {_three_digits(value.high)}]"


def interval(value: Ratio) -> str:
    """The interval of a ratio alone."""
    return f"{_three_digits(value.low)} to {_three_digits(value.high)}"


def _three_digits(value: float) -> str:
    places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{places}f}"
