"""Keep the samples that differ most from the original, in the memory of an excerpt each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.parity.excerpt import Excerpt, WorstSample, excerpt
from trt_pipeline.parity.tolerance import OutputGate
from trt_pipeline.vocabulary import Vocabulary

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
MOST_SAMPLES = 5
# What is so many times a bound was held to a bound of nothing.
_BEYOND_NUMBERS = 1e30


class WorstSamples:
    """Up to five of the samples of one output, each in the case in which it is worst; batches go in one by one."""

    def __init__(self, gate: OutputGate, scale: float, vocabulary: Vocabulary | None = None) -> None:
        """``scale`` is the original's largest magnitude in this output."""
        self._gate, self._scale, self._vocabulary = gate, scale, vocabulary
        self._pad = gate.match.pad if gate.match else None
        self._kept: dict[int | str, tuple[tuple[float, float], WorstSample]] = {}

    def add(self, case: str, samples: Sequence[int], shown: tuple[Array, Array], expected: Array, differs: Flags,
            bad: Floats, agreeing: Flags | None) -> None:
        """Consider one batch.

        Args:
            samples: number of each row's sample; where the output has not as many rows, it is one of its own.
            shown: the original's output and the candidate's as they came, whose last axes may differ in width.
            expected: the original's output, brought to the width of both, (N, ...).
            differs: elements that are not equal, (N, ...).
            bad: error over bound of each element; where no element is bounded, the error, (N, ...).
            agreeing: rows of the last axis with the same top k, flattened; None where that is not asked.
        """
        if not differs.any():
            return
        numbers: Sequence[int | None] = samples
        if not differs.ndim or len(differs) != len(samples):
            numbers, expected, differs, bad = [None], expected[None], differs[None], bad[None]
            shown = shown[0][None], shown[1][None]
        excess, share = self._rank(expected, differs, bad, agreeing)
        seen: set[int | str] = set()
        for row in map(int, np.lexsort((-share, -excess))):
            sample, rank = numbers[row], (float(excess[row]), float(share[row]))
            if not rank[0] or len(seen) == MOST_SAMPLES:
                return
            key = case if sample is None else sample
            if key not in seen and self._takes(key, rank):
                place = np.unravel_index(int(np.argmax(bad[row])), bad[row].shape)
                before, after = (self._excerpt(one[row, ...], place) for one in shown)
                self._kept[key] = rank, WorstSample(sample=sample, case=case, expected=before, got=after,
                                                    excess=_rounded(rank[0]))
            seen.add(key)

    def found(self, inputs: Callable[[int], dict[str, Excerpt]] = lambda sample: {}) -> tuple[WorstSample, ...]:
        """The worst first; ``inputs`` gives what a sample feeds."""
        ordered = sorted(self._kept.values(), key=lambda one: one[0], reverse=True)
        return tuple(one if one.sample is None else one.model_copy(update={"inputs": inputs(one.sample)})
                     for _, one in ordered)

    def _takes(self, key: int | str, rank: tuple[float, float]) -> bool:
        """Whether ``key`` is to be kept with this rank; makes room for it."""
        if key in self._kept:
            return self._kept[key][0] < rank
        if len(self._kept) == MOST_SAMPLES:
            last = min(self._kept, key=lambda one: self._kept[one][0])
            if self._kept[last][0] >= rank:
                return False
            del self._kept[last]
        return True

    def _rank(self, expected: Array, differs: Flags, bad: Floats, agreeing: Flags | None) -> tuple[Floats, Floats]:
        """`WorstSample.excess` of each row, infinity for None, and the share of its elements that differ: (N,) each."""
        gate, rows = self._gate, len(differs)
        share = np.asarray(differs.reshape(rows, -1).mean(axis=1), np.float64)
        excess = np.zeros(rows)
        if gate.exact or gate.close or not (gate.match or gate.top_k):
            excess = bad.reshape(rows, -1).max(axis=1)
            if gate.close and gate.close.floors_only and not gate.exact:
                excess = excess / self._scale
        if gate.match:
            if self._pad is not None:
                counted = ((expected != self._pad) | differs).reshape(rows, -1).sum(axis=1)
                share = differs.reshape(rows, -1).sum(axis=1) / np.maximum(counted, 1)
            excess = np.maximum(excess, _over(share, 1 - gate.match.tokens))
        if gate.top_k and agreeing is not None:
            excess = np.maximum(excess, _over(1 - agreeing.reshape(rows, -1).mean(axis=1), 1 - gate.top_k.agreement))
        return np.where(excess > _BEYOND_NUMBERS, np.inf, excess), share

    def _excerpt(self, row: Array, place: tuple[Any, ...]) -> Excerpt:
        around = 0
        if row.size and row.ndim:
            around = int(np.ravel_multi_index(tuple(map(int, place)), row.shape, mode="clip"))
        return excerpt(row, self._vocabulary, around, self._pad)


def _rounded(excess: float) -> float | None:
    return float(f"{excess:.6g}") if math.isfinite(excess) else None


def _over(share: Floats, allowed: float) -> Floats:
    """``share`` over what is allowed; infinity where nothing is and something differs."""
    return np.asarray(share / allowed if allowed > 0 else np.where(share > 0, np.inf, 0.0), np.float64)
