"""Compare one output of a candidate with the original's, over any number of cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.frozen import Frozen
from trt_pipeline.parity.excerpt import Excerpt, WorstSample
from trt_pipeline.parity.tolerance import Close, Match, OutputGate
from trt_pipeline.parity.worst_samples import WorstSamples
from trt_pipeline.vocabulary import Vocabulary

Array = npt.NDArray[Any]
WHOLE_RUN = "all"


class Worst(Frozen):
    """The element that is furthest outside (or nearest to) its bound."""

    case: str
    sample: int | None
    index: tuple[int, ...]
    expected: str
    got: str

    def __str__(self) -> str:
        where = f"sample {self.sample}" if self.sample is not None else "whole batch"
        return f"{self.case}, {where}, index {list(self.index)}: expected {self.expected}, got {self.got}"


class Figures(Frozen):
    """Parity figures of one output over one group of cases. None where a figure has no meaning."""

    group: str
    elements: int
    max_abs: float | None = None
    max_scaled: float | None = None
    cosine: float | None = None
    snr_db: float | None = None
    token_match: float | None = None
    sequence_match: float | None = None
    top_k_agreement: float | None = None
    violations: int = 0
    """Elements outside the bound."""


class OutputVerdict(Frozen):
    """Whether one output of one signature keeps its gate, and by how much."""

    signature: str
    output: str
    gate: str
    passed: bool
    reasons: tuple[str, ...]
    figures: tuple[Figures, ...]
    """The whole run first, then each corner."""
    worst: Worst | None
    samples: tuple[WorstSample, ...] = ()
    """Up to five samples that differ, the worst first."""


class OutputComparison:
    """Accumulates the figures of one output; batches go in one by one, and of a few samples an excerpt is kept."""

    def __init__(self, signature: str, output: str, gate: OutputGate, scale: float,
                 vocabulary: Vocabulary | None = None) -> None:
        """
        Args:
            scale: the original's largest magnitude (`magnitude`) in this output over all cases. Where it is zero,
                bounds hold as they would for outputs of magnitude 1.
            vocabulary: of the ids in this output, for the samples shown.
        """
        self.signature, self.output, self.gate, self.scale = signature, output, gate, scale or 1.0
        self._groups: dict[str, _Sums] = {}
        self._broken: list[str] = []
        self._worst: tuple[float, Worst] | None = None
        self._samples = WorstSamples(gate, self.scale, vocabulary)

    def add(self, case: str, group: str, samples: Sequence[int], expected: Array, got: Array) -> None:
        """Compare one batch.

        Args:
            case: name of the case, for messages.
            group: the corner that the case belongs to.
            samples: index in the samples of each row, where the output has one row a sample.
            expected: the original's output.
            got: the candidate's, of the same shape and dtype if it is right.
        """
        if got.dtype.kind != expected.dtype.kind or got.dtype.itemsize != expected.dtype.itemsize:
            self._break(f"dtype {got.dtype} instead of {expected.dtype} ({case})")
            return
        shown = expected, got
        expected, got = self._fill_widths(expected, got)
        if got.shape != expected.shape:
            self._break(f"shape {list(got.shape)} instead of {list(expected.shape)} ({case})")
            return
        sums = _Sums()
        if self.gate.top_k and (expected.dtype.kind not in "fiub" or not expected.ndim):
            self._break(f"top-k needs rows of numbers, not {expected.dtype} of rank {expected.ndim} ({case})")
            return
        if expected.size:
            differs = _differs(expected, got)
            bad = self._excess(expected, got, differs, sums)
            sums.elements = expected.size
            sums.violations = int(np.count_nonzero(bad > 1))
            self._note_worst(case, samples, expected, got, bad)
            agreeing = sums.add_top_k(expected, got, self.gate.top_k.k) if self.gate.top_k else None
            self._samples.add(case, samples, shown, expected, differs, self._shown_by(expected, got, bad), agreeing)
        for name in (WHOLE_RUN, group):
            self._groups.setdefault(name, _Sums()).merge(sums)

    def verdict(self, inputs: Callable[[int], dict[str, Excerpt]] = lambda sample: {}) -> OutputVerdict:
        """The verdict over everything added; ``inputs`` gives what a sample feeds, by input."""
        total = self._groups.get(WHOLE_RUN, _Sums())
        figures = [sums.figures(name, self.scale) for name, sums in self._groups.items()]
        reasons = tuple(self._broken) + tuple(self._missed(total))
        return OutputVerdict(signature=self.signature, output=self.output, gate=str(self.gate),
                             passed=not reasons and total.elements + total.empty > 0, reasons=reasons,
                             figures=tuple(figures), worst=self._worst[1] if self._worst else None,
                             samples=self._samples.found(inputs))

    def _missed(self, total: _Sums) -> list[str]:
        """What of the gate does not hold over the whole run."""
        gate, figures, missed = self.gate, total.figures(WHOLE_RUN, self.scale), []
        worst = f"; worst: {self._worst[1]}" if self._worst else ""
        if (gate.exact or gate.close) and total.violations:
            kind = "not equal" if gate.exact else f"outside {gate.close}"
            missed.append(f"{total.violations} of {total.elements} elements {kind}{worst}")
        if gate.close:
            missed += _below("cosine", figures.cosine, gate.close.cosine)
            missed += _below("SNR dB", figures.snr_db, gate.close.snr_db)
        if gate.match and total.tokens:  # where all is padding on both sides there is nothing to count
            missed += _below("token match", figures.token_match, gate.match.tokens, worst)
        if gate.match:
            missed += _below("sequence match", figures.sequence_match, gate.match.sequences, worst)
        if gate.top_k:
            missed += _below(f"top-{gate.top_k.k} agreement", figures.top_k_agreement, gate.top_k.agreement)
        missed = missed if total.elements else []  # batches without a row have nothing to miss
        if not self._groups and not self._broken:
            missed.append("never compared")
        return missed

    def _break(self, reason: str) -> None:
        if len(self._broken) < 3:
            self._broken.append(reason)

    def _fill_widths(self, expected: Array, got: Array) -> tuple[Array, Array]:
        """Under `Match` with a pad, bring the last axis of both sides to the same width."""
        match = self.gate.match
        if not match or match.pad is None or expected.ndim != got.ndim or expected.ndim < 2:
            return expected, got
        width = max(expected.shape[-1], got.shape[-1])
        return _padded(expected, width, match.pad), _padded(got, width, match.pad)

    def _excess(self, expected: Array, got: Array, differs: npt.NDArray[np.bool_],
                sums: _Sums) -> npt.NDArray[np.float64]:
        """Error over bound for each element: above 1 it is a violation, infinity where incomparable."""
        numeric = expected.dtype.kind in "fc" or bool(self.gate.close and expected.dtype.kind in "iu")
        if numeric:
            sums.add_floats(expected, got)
        if self.gate.match or not numeric:
            sums.add_tokens(expected, differs, self.gate.match)
        if self.gate.exact or not numeric or (self.gate.match and not self.gate.close):
            return np.where(differs, np.inf, 0.0)
        return _float_excess(expected, got, self.gate.close or Close(), self.scale)

    def _shown_by(self, expected: Array, got: Array, bad: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """``bad``, or the error itself where the gate bounds no single element."""
        close = self.gate.close
        if expected.dtype.kind not in "fiuc" or self.gate.exact or (close and not close.floors_only):
            return bad
        return bad if self.gate.match else _float_excess(expected, got, Close(atol=1), 0.0)

    def _note_worst(self, case: str, samples: Sequence[int], expected: Array, got: Array,
                    bad: npt.NDArray[np.float64]) -> None:
        place = int(np.argmax(bad))
        excess = float(bad.flat[place])
        if self._worst and self._worst[0] >= excess:
            return
        index = tuple(int(i) for i in np.unravel_index(place, bad.shape))
        by_sample = bool(index) and expected.shape[0] == len(samples)
        self._worst = (excess, Worst(
            case=case, sample=samples[index[0]] if by_sample else None, index=index[1:] if by_sample else index,
            expected=_text(expected[index]), got=_text(got[index])))


class _Sums:
    """Sums from which the figures of a group follow; they add up whatever the order."""

    def __init__(self) -> None:
        self.elements = self.violations = self.empty = 0
        self.max_abs = -1.0
        self.counted, self.sum = 0, 0j
        self.reference2 = self.candidate2 = self.error2 = self.dot = 0.0
        self.tokens = self.equal_tokens = self.sequences = self.equal_sequences = 0
        self.rows = self.agreeing_rows = 0

    def merge(self, other: _Sums) -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name == "max_abs" else mine + value)
        self.empty += not other.elements

    def add_floats(self, expected: Array, got: Array) -> None:
        counted = np.isfinite(expected) & np.isfinite(got) & ~is_mask(expected)
        a, b = _wide(expected[counted]), _wide(got[counted])
        if not a.size:
            return
        error = np.abs(b - a)
        self.max_abs = max(self.max_abs, float(error.max()))
        self.counted += a.size
        self.sum += complex(a.sum())
        self.reference2 += float(np.vdot(a, a).real)
        self.candidate2 += float(np.vdot(b, b).real)
        self.error2 += float(error @ error)
        self.dot += float(np.vdot(a, b).real)

    def add_tokens(self, expected: Array, differs: npt.NDArray[np.bool_], match: Match | None) -> None:
        counted = np.ones(expected.shape, bool)
        if match and match.pad is not None:
            counted = (expected != match.pad) | differs
        self.tokens += int(np.count_nonzero(counted))
        self.equal_tokens += int(np.count_nonzero(counted & ~differs))
        rows = differs.reshape(expected.shape[0], -1) if expected.ndim else differs.reshape(1, 1)
        self.sequences += rows.shape[0]
        self.equal_sequences += int(np.count_nonzero(~rows.any(axis=1)))

    def add_top_k(self, expected: Array, got: Array, k: int) -> npt.NDArray[np.bool_]:
        """Count the rows of the last axis whose top k agree; returns which do, (rows,)."""
        k = min(k, expected.shape[-1])
        rows_a = expected.reshape(-1, expected.shape[-1]).astype(np.float64)
        rows_b = got.reshape(-1, got.shape[-1]).astype(np.float64)
        # Stable sorting settles ties the same way on both sides.
        top_a = np.sort(np.argsort(-rows_a, axis=1, kind="stable")[:, :k], axis=1)
        top_b = np.sort(np.argsort(-rows_b, axis=1, kind="stable")[:, :k], axis=1)
        same_nan = (np.isnan(rows_a) == np.isnan(rows_b)).all(axis=1)
        agreeing = np.asarray((top_a == top_b).all(axis=1) & same_nan)
        self.rows += len(rows_a)
        self.agreeing_rows += int(np.count_nonzero(agreeing))
        return agreeing

    def _variation(self) -> float:
        """Energy of the original around its mean; of a single number, its own."""
        energy = self.reference2 - abs(self.sum) ** 2 / self.counted if self.counted > 1 else self.reference2
        # What is left of a constant after rounding is no variation.
        return energy if energy > 1e-12 * self.reference2 else 0.0

    def figures(self, group: str, scale: float) -> Figures:
        compared = self.max_abs >= 0
        norms = math.sqrt(self.reference2 * self.candidate2)
        return Figures(
            group=group, elements=self.elements, violations=self.violations,
            max_abs=self.max_abs if compared else None,
            max_scaled=self.max_abs / scale if compared else None,
            cosine=(self.dot / norms if norms else float(self.error2 == 0)) if compared else None,
            snr_db=_snr_db(self._variation(), self.error2) if compared else None,
            token_match=_ratio(self.equal_tokens, self.tokens),
            sequence_match=_ratio(self.equal_sequences, self.sequences),
            top_k_agreement=_ratio(self.agreeing_rows, self.rows),
        )


# A figure that cannot be infinite in JSON: an error-free output is reported at this ratio.
_LARGEST_SNR_DB = 300.0


def _snr_db(signal: float, noise: float) -> float:
    if noise == 0:
        return _LARGEST_SNR_DB
    return min(_LARGEST_SNR_DB, 10 * math.log10(signal / noise)) if signal else -_LARGEST_SNR_DB


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _below(name: str, value: float | None, floor: float | None, detail: str = "") -> list[str]:
    if floor is None or (value is not None and value >= floor):
        return []
    if value is None:
        return [f"{name} has no value here, and {floor:g} is asked"]
    return [f"{name} {value:.4g} below {floor:g}{detail}"]


def _differs(expected: Array, got: Array) -> npt.NDArray[np.bool_]:
    """Elements that are not equal; NaN equals NaN."""
    differs = np.asarray(expected != got)
    if expected.dtype.kind in "fc":
        differs &= ~(np.isnan(expected) & np.isnan(got))
    return differs


def _float_excess(expected: Array, got: Array, close: Close, scale: float) -> npt.NDArray[np.float64]:
    finite = np.isfinite(expected) & np.isfinite(got)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(_wide(got) - _wide(expected))
        size = np.abs(_wide(expected))
        bound = close.atol + close.rtol * size + close.scaled * np.where(is_mask(expected), size, scale)
        if close.floors_only:
            bound = np.full(expected.shape, np.inf)
        # An error of zero is inside any bound, zero included: no 0/0 hole.
        ratio = np.where(error == 0, 0.0, error / np.where(bound > 0, bound, np.finfo(np.float64).tiny))
    same = (np.isnan(expected) & np.isnan(got)) | (expected == got)
    return np.where(finite, ratio, np.where(same, 0.0, np.inf))


# What models add to say 'not here': -1e9 and the lowest float are usual.
_SMALLEST_MASK = np.float32(1e8)


def is_mask(array: Array) -> npt.NDArray[np.bool_]:
    """Where ``array`` holds a mask value instead of a number to be read."""
    return np.asarray(np.abs(array) >= _SMALLEST_MASK)


def magnitude(array: Array) -> float:
    """Largest finite magnitude in ``array``, masks left out; 0 where there is none or it holds no numbers."""
    if array.dtype.kind not in "fiuc" or not array.size:
        return 0.0
    counted = np.abs(array[np.isfinite(array) & ~is_mask(array)]).astype(np.float64)
    return float(counted.max()) if counted.size else 0.0


def _wide(array: Array) -> Array:
    """As float64 or complex128, so that differences and squares are exact enough."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _padded(array: Array, width: int, pad: int) -> Array:
    fill = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return np.pad(array, fill, constant_values=pad) if width > array.shape[-1] else array


def _text(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, (float, np.floating)) else str(value)
