"""One output against the original's: what is a violation, where the worst one is, and what each figure counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from trt_pipeline.parity.compare import OutputComparison, OutputVerdict, magnitude
from trt_pipeline.parity.tolerance import Close, Match, OutputGate, TopK, default_gate

EXACT = OutputGate(exact=True)


def compare(expected: Any, got: Any, gate: OutputGate, scale: float = 1.0,
            samples: Sequence[int] | None = None) -> OutputVerdict:
    """The verdict over one batch."""
    expected, got = np.asarray(expected), np.asarray(got)
    comparison = OutputComparison("serve", "out", gate, scale)
    rows = samples if samples is not None else range(len(expected) if expected.ndim else 1)
    comparison.add("samples [0..9]", "samples", rows, expected, got)
    return comparison.verdict()


def close(**bounds: float) -> OutputGate:
    return OutputGate(close=Close(**bounds))


# --- Floats ---


@pytest.mark.parametrize(("error", "passes"), [(0.029, True), (0.031, False)])
def test_the_bound_is_the_sum_of_its_three_parts(error: float, passes: bool) -> None:
    # 0.01 + 0.005 * 2 + 0.001 * 10 = 0.03
    gate = close(atol=0.01, rtol=0.005, scaled=0.001)
    assert compare([2.0, 10.0], [2.0 + error, 10.0], gate, scale=10.0).passed is passes


def test_an_output_scaled_by_a_hundredth_is_rejected_at_the_default_fp32_tolerance() -> None:
    logits = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    gate = default_gate("float32", "fp32", noise_floor=2.6e-7)
    verdict = compare(logits, logits * np.float32(1.01), gate, float(np.abs(logits).max()))
    assert not verdict.passed
    assert "of 80 elements outside close: scaled 7.63e-06; worst: " in verdict.reasons[0]


def test_rounding_noise_is_accepted_at_the_default_fp32_tolerance() -> None:
    logits = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    gate = default_gate("float32", "fp32", noise_floor=0.0)
    assert compare(logits, np.nextafter(logits, np.float32(9)), gate, float(np.abs(logits).max())).passed


@pytest.mark.parametrize("gate", [EXACT, close(atol=1e9)], ids=str)
def test_a_nan_of_the_candidate_is_rejected_whatever_the_tolerance(gate: OutputGate) -> None:
    verdict = compare([[1.0, 2.0]], [[1.0, np.nan]], gate)
    assert not verdict.passed
    assert verdict.figures[0].violations == 1
    assert verdict.worst is not None
    assert (verdict.worst.index, verdict.worst.got) == ((1,), "nan")


@pytest.mark.parametrize("gate", [EXACT, close(atol=1e9)], ids=str)
def test_a_nan_of_the_original_only_is_rejected(gate: OutputGate) -> None:
    assert not compare([1.0, np.nan], [1.0, 2.0], gate).passed


@pytest.mark.parametrize("gate", [EXACT, close(atol=0.0)], ids=str)
def test_nan_and_infinity_in_the_same_places_are_accepted(gate: OutputGate) -> None:
    values = [1.0, np.nan, np.inf, -np.inf]
    verdict = compare(values, values, gate)
    assert verdict.passed
    assert verdict.figures[0].max_abs == 0


@pytest.mark.parametrize("gate", [EXACT, close(atol=1e9)], ids=str)
@pytest.mark.parametrize("got", [-np.inf, np.nan, 3e38])
def test_an_infinity_is_answered_by_that_infinity_only(gate: OutputGate, got: float) -> None:
    assert not compare([0.0, np.inf], [0.0, got], gate).passed


def test_an_infinity_where_the_original_is_finite_is_rejected() -> None:
    assert not compare([3e38, 1.0], [np.inf, 1.0], close(atol=1e9)).passed


def test_exact_zeros_take_the_tolerance_of_the_whole_output() -> None:
    assert compare([0.0, 0.0, 5.0], [1e-9, -1e-9, 5.0], close(scaled=1e-6), scale=5.0).passed


def test_a_large_error_where_the_original_is_zero_is_rejected() -> None:
    verdict = compare([0.0, 5.0], [3.0, 5.0], close(rtol=0.5), scale=5.0)
    assert not verdict.passed
    assert verdict.worst is not None
    assert verdict.worst.index == ()  # one value a sample
    assert (verdict.worst.sample, verdict.worst.got) == (0, "3")


def test_an_output_that_is_all_zeros_leaves_no_hole() -> None:
    gate = default_gate("float32", "fp32", noise_floor=0.0)
    zeros = np.zeros((4, 3), np.float32)
    assert compare(zeros, zeros, gate, scale=0.0).passed
    wrong = compare(zeros, zeros + np.float32(1e-3), gate, scale=0.0)
    assert not wrong.passed
    assert wrong.figures[0].violations == 12
    assert wrong.figures[0].max_scaled == pytest.approx(1e-3)


def test_only_one_side_all_zeros_is_rejected() -> None:
    ones = np.ones(4, np.float32)
    verdict = compare(ones, 0 * ones, close(scaled=0.5), scale=1.0)
    assert not verdict.passed
    assert verdict.figures[0].cosine == 0


def test_minus_zero_equals_zero() -> None:
    assert compare([0.0, -0.0], [-0.0, 0.0], EXACT).passed


def test_half_precision_is_compared_without_overflow() -> None:
    verdict = compare(np.array([6e4], np.float16), np.array([-6e4], np.float16), close(atol=1.2e5))
    assert verdict.passed
    assert verdict.figures[0].max_abs == 2 * float(np.float16(6e4))


def test_integers_may_be_close_where_asked() -> None:
    assert compare([100, 200], [101, 200], close(atol=1)).passed
    assert not compare([100, 200], [102, 200], close(atol=1)).passed


def test_unsigned_integers_do_not_wrap_around() -> None:
    assert compare(np.array([1], np.uint8), np.array([0], np.uint8), close(atol=1)).passed


def test_complex_numbers_are_compared_with_their_imaginary_part() -> None:
    expected = np.array([1 + 1j, 2 + 2j], np.complex64)
    assert compare(expected, expected, close(rtol=0.01)).passed
    assert not compare(expected, expected.conj(), close(rtol=0.01)).passed


# --- Figures and floors ---


def test_the_figures_of_floats_by_hand() -> None:
    figures = compare([3.0, 4.0], [3.0, 3.5], close(atol=1), scale=4.0).figures[0]
    assert (figures.elements, figures.violations) == (2, 0)
    assert figures.max_abs == 0.5
    assert figures.max_scaled == 0.125
    assert figures.cosine == pytest.approx(23 / (5 * 21.25**0.5))
    assert figures.snr_db == pytest.approx(3.0103, rel=1e-4)  # 0.5 around the mean over 0.25
    assert figures.token_match is None


def test_an_error_free_output_has_a_finite_signal_to_noise_ratio() -> None:
    figures = compare([1.0], [1.0], close(atol=1)).figures[0]
    assert (figures.cosine, figures.snr_db) == (1.0, 300.0)


@pytest.mark.parametrize(("floor", "passes"), [(19.9, True), (20.1, False)])
def test_the_signal_to_noise_floor(floor: float, passes: bool) -> None:
    verdict = compare([-5.0, 5.0], [-5.0, 5.7071068], close(atol=1, snr_db=floor))
    assert verdict.passed is passes
    assert verdict.reasons == (() if passes else ("SNR dB 20 below 20.1",))


def test_an_offset_is_no_signal() -> None:
    """Kelvin: a candidate that always says 290 says nothing."""
    kelvin = np.random.default_rng(3).normal(290, 5, 200)
    assert not compare(kelvin, np.full(200, 290.0), close(scaled=0.1, snr_db=20)).passed
    assert compare(kelvin, kelvin + 0.01, close(scaled=0.1, snr_db=20)).passed


def test_a_mask_value_does_not_widen_the_bound_of_the_others() -> None:
    logits = np.array([[1.0, 2.0, -1e9], [3.0, -4.0, -1e9]], np.float32)
    scale = magnitude(logits)
    assert scale == 4.0
    assert compare(logits, logits * np.float32(1 + 1e-6), close(scaled=1e-5), scale=scale).passed
    assert not compare(logits, np.where(logits > -1e8, 0, logits), close(scaled=1e-5), scale=scale).passed
    assert not compare(logits, np.where(logits > -1e8, logits, -1e8), close(scaled=1e-5), scale=scale).passed


def test_an_output_of_zeros_is_bounded_as_if_its_magnitude_were_one() -> None:
    zeros = np.zeros(4, np.float32)
    assert compare(zeros, zeros + np.float32(1e-12), close(scaled=1e-5), scale=0.0).passed
    assert not compare(zeros, zeros + np.float32(1e-3), close(scaled=1e-5), scale=0.0).passed


@pytest.mark.parametrize(("floor", "passes"), [(0.99, True), (0.999, False)])
def test_the_cosine_floor(floor: float, passes: bool) -> None:
    verdict = compare([3.0, 4.0], [3.0, 3.5], close(atol=1, cosine=floor))  # 23 over 23.0488
    assert verdict.passed is passes
    assert verdict.reasons == (() if passes else ("cosine 0.9979 below 0.999",))


def test_a_floor_alone_does_not_ask_for_equal_elements() -> None:
    assert compare([3.0, 4.0], [3.0, 3.9], close(cosine=0.99)).passed


# --- Tokens, strings, booleans ---


def fifty_sequences() -> tuple[np.ndarray, np.ndarray]:
    """50 sequences of 20 tokens; the candidate has one token of one sequence wrong."""
    tokens = np.random.default_rng(0).integers(3, 900, (50, 20)).astype(np.int32)
    changed = tokens.copy()
    changed[41, 7] += 1
    return tokens, changed


def test_one_wrong_token_in_fifty_sequences_is_rejected_under_exact_match() -> None:
    tokens, changed = fifty_sequences()
    verdict = compare(tokens, changed, default_gate("int32", "int8", noise_floor=0.0))
    assert not verdict.passed
    assert verdict.reasons == (
        "1 of 1000 elements not equal; worst: samples [0..9], sample 41, index [7]: "
        f"expected {tokens[41, 7]}, got {tokens[41, 7] + 1}",)


@pytest.mark.parametrize(("match", "reason"), [
    (Match(0.9), None),
    (Match(0.999), None),
    (Match(0.9995), "token match 0.999 below 0.9995; worst: samples [0..9], sample 41, index [7]"),
    (Match(0.9, sequences=0.98), None),
    (Match(0.9, sequences=0.99), "sequence match 0.98 below 0.99; worst: samples [0..9], sample 41"),
])
def test_one_wrong_token_in_fifty_sequences_under_match(match: Match, reason: str | None) -> None:
    tokens, changed = fifty_sequences()
    verdict = compare(tokens, changed, OutputGate(match=match))
    assert (verdict.figures[0].token_match, verdict.figures[0].sequence_match) == (0.999, 0.98)
    assert verdict.passed is (reason is None)
    assert reason is None or verdict.reasons[0].startswith(reason)


def test_another_width_is_a_wrong_shape_without_a_pad() -> None:
    verdict = compare([[5, 6, 0]], [[5, 6]], OutputGate(match=Match(0.5)))
    assert not verdict.passed
    assert verdict.reasons == ("shape [1, 2] instead of [1, 3] (samples [0..9])",)


@pytest.mark.parametrize(("expected", "got"), [([[5, 6, 0, 0]], [[5, 6]]), ([[5, 6]], [[5, 6, 0, 0]])])
def test_with_a_pad_the_width_may_differ_and_padding_counts_for_nothing(expected: Any, got: Any) -> None:
    verdict = compare(expected, got, OutputGate(match=Match(1.0, sequences=1.0, pad=0)))
    assert verdict.passed
    assert verdict.figures[0].token_match == 1.0


def test_with_a_pad_a_token_too_many_counts_against_the_candidate() -> None:
    # Of 5, 6 and the surplus 7, two agree; padding on both sides is not counted.
    verdict = compare([[5, 6, 0, 0]], [[5, 6, 7]], OutputGate(match=Match(0.7, pad=0)))
    assert verdict.figures[0].token_match == pytest.approx(2 / 3)
    assert not verdict.passed


def test_with_a_pad_the_number_of_rows_must_still_agree() -> None:
    verdict = compare([[5, 6], [7, 8]], [[5, 6]], OutputGate(match=Match(0.0, pad=0)))
    assert verdict.reasons[0].startswith("shape [1, 2] instead of [2, 2]")


@pytest.mark.parametrize(("expected", "got"), [
    (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)),
    (np.array([b"a", b""], object), np.array([b"a", b"\0"], object)),
    (np.array([True, False]), np.array([True, True])),
])
def test_strings_and_booleans_are_equal_or_not(expected: Any, got: Any) -> None:
    gate = default_gate("string", "int8", noise_floor=0.0)
    assert compare(expected, expected.copy(), gate).passed
    verdict = compare(expected, got, gate)
    assert not verdict.passed
    assert verdict.figures[0].violations == 1
    assert verdict.worst is not None
    assert verdict.worst.sample == 1


def test_match_holds_for_float_outputs_too() -> None:
    """Ids that a model returns as floats: the config asks for 99 % equal, so a wholly wrong output fails."""
    ids = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert compare(ids, ids, OutputGate(match=Match(0.99))).passed
    assert not compare(ids, ids + 100, OutputGate(match=Match(0.99))).passed


def test_match_holds_beside_close() -> None:
    ids = np.arange(20).reshape(4, 5)
    gate = OutputGate(close=Close(atol=5), match=Match(0.99))
    assert not compare(ids, ids + 1, gate).passed


# --- Top k ---


def test_top_k_compares_sets_row_by_row() -> None:
    expected = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]
    got = [[0.1, 0.5, 0.6], [0.5, 0.3, 0.2]]
    assert compare(expected, got, OutputGate(top_k=TopK(k=2))).passed
    verdict = compare(expected, got, OutputGate(top_k=TopK(k=1)))
    assert verdict.figures[0].top_k_agreement == 0.5
    assert verdict.reasons == ("top-1 agreement 0.5 below 1",)


def test_top_k_settles_ties_the_same_way_on_both_sides() -> None:
    tied = np.full((3, 100), 0.01, np.float32)
    assert compare(tied, tied.copy(), OutputGate(top_k=TopK(k=5))).passed


def test_a_k_beyond_the_width_takes_all() -> None:
    assert compare([[1.0, 2.0]], [[2.0, 1.0]], OutputGate(top_k=TopK(k=10))).passed


def test_top_k_of_integer_scores_of_any_sign() -> None:
    gate = OutputGate(top_k=TopK(k=1))
    assert not compare(np.array([[0, 5]], np.int8), np.array([[5, 0]], np.int8), gate).passed
    assert not compare(np.array([[0, 5, 7]], np.uint8), np.array([[0, 7, 5]], np.uint8), gate).passed


def test_a_nan_fails_a_gate_of_top_k_alone() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    assert not compare(scores, np.full_like(scores, np.nan), OutputGate(top_k=TopK(k=1))).passed


# --- Shape, dtype, size ---


@pytest.mark.parametrize(("got", "reason"), [
    (np.zeros((2, 3), np.float64), "dtype float64 instead of float32 (samples [0..9])"),
    (np.zeros((2, 3), np.int32), "dtype int32 instead of float32 (samples [0..9])"),
    (np.zeros((2, 4), np.float32), "shape [2, 4] instead of [2, 3] (samples [0..9])"),
    (np.zeros((6,), np.float32), "shape [6] instead of [2, 3] (samples [0..9])"),
    (np.zeros((1, 3), np.float32), "shape [1, 3] instead of [2, 3] (samples [0..9])"),
])
def test_another_dtype_or_shape_is_rejected_even_where_the_values_would_do(got: Any, reason: str) -> None:
    verdict = compare(np.zeros((2, 3), np.float32), got, close(atol=1e9))
    assert not verdict.passed
    assert verdict.reasons == (reason,)
    assert verdict.figures == ()


def test_a_flood_of_wrong_shapes_is_told_three_times() -> None:
    comparison = OutputComparison("serve", "out", EXACT, 0.0)
    for number in range(10):
        comparison.add(f"case {number}", "samples", [0], np.zeros((1, 2)), np.zeros((1, 3)))
    assert comparison.verdict().reasons == tuple(
        f"shape [1, 3] instead of [1, 2] (case {number})" for number in range(3))


@pytest.mark.parametrize("gate", [EXACT, close(atol=0.1), OutputGate(match=Match()), OutputGate(top_k=TopK())], ids=str)
def test_no_rows_equal_no_rows(gate: OutputGate) -> None:
    verdict = compare(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), gate)
    assert verdict.passed
    assert verdict.worst is None
    assert verdict.figures[0].elements == 0


def test_rows_where_the_original_has_none_are_rejected() -> None:
    assert not compare(np.zeros((0, 4), np.float32), np.zeros((1, 4), np.float32), EXACT).passed


@pytest.mark.parametrize(("gate", "got", "passes"), [
    (EXACT, 2.0, True), (EXACT, 2.5, False), (close(atol=1.0), 2.5, True), (close(atol=0.1), 2.5, False)])
def test_scalars(gate: OutputGate, got: float, passes: bool) -> None:
    verdict = compare(np.float32(2.0), np.float32(got), gate)
    assert verdict.passed is passes
    assert verdict.worst is not None
    assert (verdict.worst.sample, verdict.worst.index) == (None, ())


def test_an_output_that_was_never_compared_does_not_pass() -> None:
    verdict = OutputComparison("serve", "out", EXACT, 0.0).verdict()
    assert not verdict.passed
    assert verdict.reasons == ("never compared",)


# --- The worst element ---


def test_the_worst_element_is_named_by_case_sample_and_index() -> None:
    comparison = OutputComparison("serve", "out", close(atol=0.1), 1.0)
    zeros = np.zeros((2, 3, 4))
    small, large = zeros.copy(), zeros.copy()
    small[0, 1, 1], large[1, 2, 3] = 0.5, -7.25
    comparison.add("first", "samples", [10, 11], zeros, small)
    comparison.add("second", "samples", [12, 13], zeros, large)
    comparison.add("third", "samples", [14, 15], zeros, small)
    verdict = comparison.verdict()
    assert str(verdict.worst) == "second, sample 13, index [2, 3]: expected 0, got -7.25"
    assert verdict.reasons == (
        "3 of 72 elements outside close: atol 0.1; worst: second, sample 13, index [2, 3]: expected 0, got -7.25",)


def test_the_worst_sample_is_right_where_rows_begin_again() -> None:
    expected = np.zeros((8, 2))
    got = expected.copy()
    got[6, 1] = 1.0
    verdict = compare(expected, got, close(atol=0.1), samples=[0, 1, 2, 0, 1, 2, 0, 1])
    assert verdict.worst is not None
    assert (verdict.worst.sample, verdict.worst.index) == (0, (1,))


def test_an_output_without_a_row_for_each_sample_names_the_whole_batch() -> None:
    verdict = compare(np.zeros((2, 3)), np.eye(2, 3), close(atol=2.0), samples=[4, 5, 6, 7])
    assert verdict.worst is not None
    assert str(verdict.worst) == "samples [0..9], whole batch, index [0, 0]: expected 0, got 1"


def test_an_incomparable_element_is_worse_than_any_error() -> None:
    comparison = OutputComparison("serve", "out", close(atol=0.1), 1.0)
    comparison.add("large", "samples", [0], np.zeros((1, 2)), np.full((1, 2), 1e30))
    comparison.add("nan", "samples", [1], np.zeros((1, 2)), np.array([[0.0, np.nan]]))
    assert str(comparison.verdict().worst) == "nan, sample 1, index [1]: expected 0, got nan"


# --- Groups ---


def test_groups_add_up_to_the_whole_run_in_any_order() -> None:
    generator = np.random.default_rng(3)
    batches = []
    for group, size in (("batch 1", 1), ("batch max", 7), ("samples", 4), ("samples", 2), ("empty", 0)):
        expected = generator.integers(0, 5, (size, 6)).astype(np.float64)
        batches.append((group, expected, expected + (generator.random((size, 6)) < 0.2)))

    def figures(order: Sequence[int]) -> dict[str, dict[str, Any]]:
        comparison = OutputComparison("serve", "out", close(atol=0.5), 4.0)
        for place in order:
            group, expected, got = batches[place]
            comparison.add(group, group, range(len(expected)), expected, got)
        return {f.group: f.model_dump() for f in comparison.verdict().figures}

    forwards, backwards = figures(range(5)), figures([4, 2, 0, 3, 1])
    assert forwards.keys() == {"all", "batch 1", "batch max", "samples", "empty"}
    for group, values in forwards.items():
        assert values == pytest.approx(backwards[group])
    parts = [values for group, values in forwards.items() if group != "all"]
    assert forwards["all"]["elements"] == sum(part["elements"] for part in parts) == 84
    assert forwards["all"]["violations"] == sum(part["violations"] for part in parts) > 0
    assert forwards["all"]["max_abs"] == max(part["max_abs"] or 0 for part in parts)


def test_every_part_of_a_gate_must_hold() -> None:
    gate = OutputGate.model_validate({"close": {"atol": 10}, "top_k": {"k": 1}})
    assert compare([[1.0, 2.0]], [[1.0, 3.0]], gate).passed
    assert compare([[1.0, 2.0]], [[2.0, 1.0]], gate).reasons == ("top-1 agreement 0 below 1",)
    assert len(compare([[1.0, 2.0]], [[50.0, 1.0]], gate).reasons) == 2
