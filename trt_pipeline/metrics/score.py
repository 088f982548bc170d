"""What a candidate's metrics came to, and whether they keep their bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from trt_pipeline.frozen import Frozen
from trt_pipeline.parity.tolerance import MetricBound


class Scores(Frozen):
    """Metrics of one candidate. Of one that did not answer all samples, they are in none of the three."""

    values: dict[str, float] = {}
    """Metric -> its value, a finite number."""
    not_finite: dict[str, str] = {}
    """Metric -> "NaN", "inf" or "-inf", where its function returned that."""
    failed: dict[str, str] = {}
    """Metric -> why it could not be computed."""

    def with_value(self, metric: str, value: float) -> Scores:
        """These and one more."""
        if math.isfinite(value):
            return self.model_copy(update={"values": {**self.values, metric: value}})
        what = "NaN" if math.isnan(value) else str(value)
        return self.model_copy(update={"not_finite": {**self.not_finite, metric: what}})

    def with_failed(self, metric: str, why: str) -> Scores:
        """These and one more, which could not be computed."""
        return self.model_copy(update={"failed": {**self.failed, metric: why}})

    def told(self) -> dict[str, str]:
        """Metric -> what is to be said of it, for those without a finite value."""
        return {**{name: f"metric {name} is {what}" for name, what in self.not_finite.items()},
                **{name: f"metric {name} could not be computed: {why}" for name, why in self.failed.items()}}


def missed(bounds: Mapping[str, MetricBound], scores: Scores, original: Scores) -> list[str]:
    """The bounds that ``scores`` do not keep, a clause each; what has no finite value misses any bound."""
    told = scores.told()
    found: list[str] = []
    for name, bound in bounds.items():
        if name in scores.values:
            found += _missed(name, bound, scores.values[name], original.values.get(name))
        elif bound.given and name in told:
            found.append(f"{told[name]}; asked: {bound}")
    return found


def unbounded(bounds: Mapping[str, MetricBound], scores: Scores) -> list[str]:
    """What is to be said of metrics that have no finite value, and no bound to miss either."""
    return [text for name, text in scores.told().items() if name not in bounds or not bounds[name].given]


def _missed(name: str, bound: MetricBound, value: float, original: float | None) -> Iterator[str]:
    if bound.min is not None and value < bound.min:
        yield f"metric {name} {value:.6g} below {bound.min:g}"
    if bound.max is not None and value > bound.max:
        yield f"metric {name} {value:.6g} above {bound.max:g}"
    if original is None:
        return
    # A drop of two samples in 200 is one of 0.01, whatever the last bit says.
    slack = 1e-12 * max(abs(original), abs(value), 1.0)
    for word, change, allowed in (("below", original - value, bound.max_drop),
                                  ("above", value - original, bound.max_rise)):
        if allowed is not None and change > allowed + slack:
            yield (f"metric {name} {value:.6g} is {change:.3g} {word} the original's {original:.6g}, and "
                   f"{allowed:g} is allowed")
