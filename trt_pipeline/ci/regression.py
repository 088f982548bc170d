"""Compare a run with those of a baseline: what got worse beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from trt_pipeline import figures
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.ci.baseline import BaselineRun, Measured
from trt_pipeline.ci.outcome import Regression

# A ratio counts as worse when its interval ends below those of all runs of the baseline, and by so much: two runs of
# the same thing differ by a little more than their intervals, and a baseline may hold but one.
SPREAD = 0.02
# A parity error counts as worse when it is larger than the largest of the baseline by both: sums in another order
# move the last bits of an error that was none.
PARITY_GROWTH = 1.5
PARITY_FLOOR = 1e-5
# Tails are too noisy for a verdict of their own, unless the objective asks for them.
_METRIC = "latency_p50"


def compare(now: BaselineRun, before: Sequence[BaselineRun], objective: str) -> tuple[Regression, ...]:
    """What of ``now`` is worse than in all of ``before``: runs under the same conditions, oldest first.

    Args:
        objective: ``METRIC@BATCH``; its metric is compared besides the median latency, at every batch size.
    """
    found: list[Regression] = []
    metrics = dict.fromkeys((_METRIC, objective.partition("@")[0]))
    for name, measured in now.candidates.items():
        held = [(run, run.candidates[name]) for run in before if name in run.candidates]
        if not held or name == figures.ORIGINAL:
            continue
        if held[-1][1].status == "ok" and measured.status != "ok":
            found.append(Regression(candidate=name, what="status", before="ok", now=measured.status))
            continue
        good = [(run, one) for run, one in held if one.status == "ok"]
        if measured.status != "ok" or not good:
            continue
        found += _slower(name, measured, [one for _, one in good], metrics)
        found += _less_alike(name, measured, [one for run, one in good if _same_data(run, now)])
    return tuple(found)


def notes(now: BaselineRun, before: Sequence[BaselineRun]) -> Iterator[str]:
    """What there is to know of a comparison, besides what got worse."""
    newest = before[-1]
    if missing := sorted(set(newest.candidates) - set(now.candidates)):
        yield f"not in this run, so not compared: {', '.join(missing)}"
    if not any(_same_data(run, now) for run in before):
        yield "the baseline is of another model or other samples: parity errors are not compared"
    changed = [f"{key} {newest.versions.get(key) or 'none'} to {now.versions.get(key) or 'none'}"
               for key in sorted({*newest.versions, *now.versions})
               if newest.versions.get(key) != now.versions.get(key)]
    if changed:
        yield f"versions changed since the baseline: {', '.join(changed)}"


def _same_data(run: BaselineRun, now: BaselineRun) -> bool:
    return (run.model_digest, run.samples_digests) == (now.model_digest, now.samples_digests)


def _slower(name: str, now: Measured, before: Sequence[Measured], metrics: dict[str, None]) -> Iterator[Regression]:
    for timing in now.timings:
        for metric in metrics:
            held = [one.ratios[metric] for run in before for one in run.timings
                    if (one.signature, one.batch_size) == (timing.signature, timing.batch_size)
                    and metric in one.ratios]
            ratio = timing.ratios.get(metric)
            if held and ratio and ratio.high < min(one.low for one in held) * (1 - SPREAD):
                yield Regression(candidate=name, what=f"{metric}@{timing.batch_size} of {timing.signature}",
                                 before=f"{_envelope(held)} of the original's speed", now=str(ratio))


def _envelope(held: Sequence[Ratio]) -> str:
    """One interval around all: ``1.52x [1.48, 1.56]``, of several runs with their number."""
    middle = sorted(one.value for one in held)[len(held) // 2]
    whole = Ratio(value=middle, low=min(one.low for one in held), high=max(one.high for one in held))
    return f"{whole} in {len(held)} runs" if len(held) > 1 else str(whole)


def _less_alike(name: str, now: Measured, before: Sequence[Measured]) -> Iterator[Regression]:
    held = [one.parity for one in before if one.parity is not None and one.estimated == now.estimated]
    if not held or now.parity is None or not math.isfinite(max(held)):
        return
    if now.parity > PARITY_GROWTH * max(held) + PARITY_FLOOR:
        yield Regression(candidate=name, what="parity", before=f"{max(held):.2g}", now=f"{now.parity:.2g}")
