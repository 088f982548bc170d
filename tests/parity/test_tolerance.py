"""Which bound an output gets: the config's most exact word for it, or the default of its dtype and precision."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trt_pipeline.parity.tolerance import Close, Gate, Match, OutputGate, TopK, default_gate, tolerance_from_floor


def resolved(gate: Gate, signature: str = "serve", output: str = "logits", precision: str = "fp16") -> str:
    return str(gate.resolve(signature, output, "float32", precision, noise_floor=0.0))


@pytest.mark.parametrize(("precision", "text"), [
    ("fp32", "close: scaled 7.63e-06"),
    ("native", "close: scaled 7.63e-06"),
    ("tf32", "close: scaled 0.01, SNR dB >= 40"),
    ("fp16", "close: scaled 0.01, SNR dB >= 40"),
    ("bf16", "close: scaled 0.05, SNR dB >= 30"),
    ("int8", "close: scaled 0.1, SNR dB >= 20"),
])
def test_floats_have_a_default_for_each_precision(precision: str, text: str) -> None:
    assert str(default_gate("float32", precision, noise_floor=0.0)) == text


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "complex64"])
def test_all_kinds_of_floats_are_close_by_default(dtype: str) -> None:
    assert default_gate(dtype, "fp32", noise_floor=0.0).close


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool", "string"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_everything_else_is_exact_by_default_at_every_precision(dtype: str, precision: str) -> None:
    assert default_gate(dtype, precision, noise_floor=0.5) == OutputGate(exact=True)


def test_the_fp32_bound_is_eight_times_the_noise_and_never_less_than_eight_times_rounding() -> None:
    assert tolerance_from_floor(1e-3) == 8e-3
    assert tolerance_from_floor(0.0) == tolerance_from_floor(1e-9) == 2.0**-17


def test_the_noise_does_not_widen_a_reduced_precision() -> None:
    assert default_gate("float32", "int8", 0.0) == default_gate("float32", "int8", 0.9)


def test_an_output_of_one_signature_beats_the_same_name_in_all() -> None:
    gate = Gate(outputs={"logits": OutputGate(exact=True), "serve.logits": OutputGate(close=Close(atol=1))})
    assert resolved(gate) == "close: atol 1"
    assert resolved(gate, signature="other") == "exact"


def test_a_precision_beats_the_general_bound() -> None:
    gate = Gate(outputs={"serve.logits": OutputGate(exact=True)},
                precisions={"int8": {"logits": OutputGate(close=Close(atol=1))}})
    assert resolved(gate, precision="int8") == "close: atol 1"
    assert resolved(gate, precision="fp16") == "exact"


def test_an_output_that_is_not_named_keeps_its_default() -> None:
    gate = Gate(outputs={"logits": OutputGate(exact=True)}, precisions={"int8": {"x": OutputGate(exact=True)}})
    assert resolved(gate, output="probabilities", precision="int8") == "close: scaled 0.1, SNR dB >= 20"


def test_python_callers_may_give_a_bare_tolerance_or_several() -> None:
    gate = Gate.model_validate({"outputs": {"a": Match(0.99), "b": [Close(atol=1), TopK(k=5)]}})
    assert str(gate.outputs["a"]) == "match: tokens >= 0.99"
    assert str(gate.outputs["b"]) == "close: atol 1; top-5: rows >= 1"


def test_a_gate_survives_json() -> None:
    gate = Gate.model_validate({"outputs": {"a": Match(0.9, sequences=0.5, pad=0)},
                                "precisions": {"int8": {"a": Close(atol=1, cosine=0.5)}}})
    assert Gate.model_validate(gate.model_dump(mode="json", exclude_none=True)) == gate


@pytest.mark.parametrize(("value", "complaint"), [
    ({}, "give at least one of exact, close, match, top_k"),
    ({"exact": False}, "give at least one of exact, close, match, top_k"),
    ({"close": {"atol": -1}}, "greater than or equal to 0"),
    ({"close": {"cosine": 1.5}}, "less than or equal to 1"),
    ({"match": {"tokens": 1.1}}, "less than or equal to 1"),
    ({"top_k": {"k": 0}}, "greater than or equal to 1"),
    ({"close": {"tolerance": 1}}, "Extra inputs are not permitted"),
    ("exact", "valid dictionary"),
])
def test_bounds_that_mean_nothing_are_refused(value: object, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        OutputGate.model_validate(value)


def test_two_tolerances_of_one_kind_are_refused() -> None:
    """One of them would be dropped without a word."""
    with pytest.raises(ValidationError):
        OutputGate.model_validate([Close(atol=1e-3), Close(cosine=0.99)])


def test_a_bound_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        Close(atol=float("nan"))
