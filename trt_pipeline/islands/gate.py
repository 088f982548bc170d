"""The gate as a search needs it: whether a set of raised nodes passes, and how far it is from the bound."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.parity.compare import Figures, OutputComparison, magnitude
from trt_pipeline.parity.tolerance import Gate, OutputGate
from trt_pipeline.samples.store import Samples

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
Run = Callable[[Feeds], Mapping[str, Array]]
BATCH_SIZE = 16
# Sets that miss the bound by more than this factor on the first samples are not run on the others.
_HOPELESS = 3.0
# Share of the batches that tells a failure for certain.
_ENOUGH = 1 / 8
# What counts as no error at all, and as nothing but error, in dB.
_CLEAN_DB, _LOST_DB = 300.0, -300.0
# A bound of zero has no ratio: there, each percent that differs counts as once the bound.
_PERCENT = 100.0
# How far what cannot be compared at all is from any bound: NaN, another shape. A number, so that JSON can hold it.
FARTHEST = 1e6


class Judged(Frozen):
    """What the gate says of one evaluation."""

    passed: bool
    distance: float
    """The largest ratio of an error to its bound, over all outputs: at most 1 where the gate is met."""
    snr_db: dict[str, float] = {}
    """Output -> signal to noise ratio; of tokens, that of the share that is equal to the share that is not."""
    noise: float = 0.0
    """The median sample's largest error in any float output, as a share of that output's magnitude."""
    reason: str = ""
    """What is missed first; empty where nothing is."""

    def within(self, margin: float) -> Judged:
        """The same, passed only where the distance is at most ``margin``."""
        if not self.passed or self.distance <= margin:
            return self
        return self.model_copy(update={
            "passed": False, "reason": f"passes by less than asked: {self.distance:.3g} of the bound, "
                                       f"at most {margin:g} wanted"})


class SearchGate:
    """The gate of one signature, on fixed batches of its samples; the reference is what float32 says of them."""

    def __init__(self, signature: SignatureContract, gate: Gate, precision: str, floors: Mapping[str, float],
                 batches: Sequence[Feeds], original: Run) -> None:
        """
        Args:
            floors: output -> the original's own noise, as a share of its largest magnitude; 0 where missing.
            batches: feeds by input name; see `batches`.
            original: runs the signature in float32.
        """
        self._signature, self._batches = signature.name, list(batches)
        self._expected = [dict(original(feeds)) for feeds in self._batches]
        self._gates = {name: gate.resolve(signature.name, name, tensor.dtype, precision, floors.get(name, 0.0))
                       for name, tensor in signature.outputs.items()}
        self._scales = {name: max((magnitude(outputs[name]) for outputs in self._expected), default=0.0)
                        for name in self._gates}

    def judge_raised(self, run: Run, raised: Collection[str]) -> Judged:
        """Judge a candidate with the nodes ``raised`` in float32, no longer than it may still pass.

        What nothing raised misses by is reported, so that is measured on everything.
        """
        return self.judge(run, hopeless=_HOPELESS if raised else math.inf)

    def judge(self, run: Run, batches: int | None = None, hopeless: float = math.inf) -> Judged:
        """Run all batches, or the first ``batches``, and apply the gate.

        Once enough of them are done and are further than ``hopeless`` from the bound, the others are left
        out: what fails that far fails, and most sets that a search tries do.
        """
        comparisons = [_Measured(self._signature, name, gate, self._scales[name])
                       for name, gate in self._gates.items()]
        pairs = list(zip(self._batches, self._expected, strict=True))[:batches]
        errors: dict[str, list[float]] = {}
        for number, (feeds, expected) in enumerate(pairs):
            got = run(feeds)
            for comparison in comparisons:
                value = expected[comparison.output]
                if value.dtype.kind == "f":
                    scale = self._scales[comparison.output] or 1.0
                    errors.setdefault(comparison.output, []).extend(_row_errors(value, got[comparison.output], scale))
                comparison.add(f"batch {number}", "samples", range(len(value) if value.ndim else 1),
                               value, got[comparison.output])
            if (number + 1 >= _ENOUGH * len(pairs)
                    and max((comparison.distance() for comparison in comparisons), default=0.0) > hopeless):
                break
        verdicts = [comparison.verdict() for comparison in comparisons]
        return Judged(
            passed=all(verdict.passed for verdict in verdicts),
            distance=max((comparison.distance() for comparison in comparisons), default=0.0),
            snr_db={comparison.output: comparison.snr_db() for comparison in comparisons},
            noise=max((statistics.median(rows) for rows in errors.values() if rows), default=0.0),
            reason=next((f"{v.output}: {v.reasons[0]}" for v in verdicts if v.reasons), ""))


def batches(signature: SignatureContract, samples: Samples, most: int, size: int = BATCH_SIZE) -> list[Feeds]:
    """About ``most`` of the samples, spread over all of them, in the batches that the signature takes.

    Neighbours share a batch, whatever their lengths, so padding inside a batch is as real.
    """
    count = max(len(samples), 1)
    step = max(1, count // most)
    rows = range(0, count, step)[:most]
    if signature.fixed_batch is not None:
        size = signature.fixed_batch
        groups = [[rows[(start + i) % len(rows)] for i in range(size)] for start in range(0, len(rows), size)]
    elif signature.batched:
        groups = [list(rows[start:start + size]) for start in range(0, len(rows), size)]
    else:
        groups = [list(range(count))]
    found = []
    for group in groups:
        feeds = samples.take(group)
        found.append(feeds | signature.left_out(feeds))
    return found


def _row_errors(expected: Array, got: Array, scale: float) -> list[float]:
    """The largest error of each sample, as a share of ``scale``; what cannot be compared is as far as can be."""
    if expected.shape != got.shape:
        return [FARTHEST]
    if not expected.size:
        return []
    with np.errstate(invalid="ignore"):
        errors = np.where(got == expected, 0.0, np.abs(got.astype(np.float64) - expected))
    rows = errors.reshape(len(expected) if expected.ndim else 1, -1)
    largest = np.where(np.isnan(rows), np.inf, rows).max(axis=1, initial=0.0) / scale
    return [float(error) for error in np.minimum(largest, FARTHEST)]


class _Measured(OutputComparison):
    """A comparison that also says how far it is from its bound."""

    def distance(self) -> float:
        """The largest ratio of an error to its bound."""
        verdict, gate = self.verdict(), self.gate
        if self._broken or not verdict.figures:
            return FARTHEST
        figures = verdict.figures[0]
        found = [0.0, *_shares(figures, gate)]
        if gate.exact and figures.violations:
            found.append(1 + _PERCENT * figures.violations / figures.elements)
        if gate.close:
            found.append(self._worst[0] if self._worst else 0.0)
            if gate.close.snr_db is not None:
                found.append(10 ** ((gate.close.snr_db - _or_lost(figures.snr_db, figures.elements)) / 20))
        # Rounding must not put on one side of 1 what the gate puts on the other.
        distance = min(max(found), FARTHEST)
        return min(distance, 1.0) if verdict.passed else max(distance, math.nextafter(1, 2))

    def snr_db(self) -> float:
        """The output's signal to noise ratio."""
        verdict = self.verdict()
        if self._broken or not verdict.figures or (self._worst and self.gate.close and math.isinf(self._worst[0])):
            return _LOST_DB
        figures = verdict.figures[0]
        if figures.snr_db is not None:
            return figures.snr_db
        share = figures.token_match
        if share is None:
            return _CLEAN_DB
        return _LOST_DB if share <= 0 else _CLEAN_DB if share >= 1 else 10 * math.log10(share / (1 - share))


def _shares(figures: Figures, gate: OutputGate) -> list[float]:
    """Error over bound of everything that is a share: tokens, sequences, rows, and the cosine."""
    asked: list[tuple[float | None, float | None]] = []
    if gate.match:
        asked += [(figures.token_match, gate.match.tokens), (figures.sequence_match, gate.match.sequences)]
    if gate.top_k:
        asked.append((figures.top_k_agreement, gate.top_k.agreement))
    if gate.close:
        asked.append((figures.cosine, gate.close.cosine))
    found = []
    for value, floor in asked:
        if value is None or floor is None or value >= 1:
            continue
        found.append((1 - value) / (1 - floor) if floor < 1 else 1 + _PERCENT * (1 - value))
    return found


def _or_lost(value: float | None, elements: int) -> float:
    if value is None:
        return _LOST_DB if elements else _CLEAN_DB
    return value
