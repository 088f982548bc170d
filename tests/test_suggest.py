"""The nearest known word, where one is near enough to be what was meant."""

from __future__ import annotations

import pytest

from trt_pipeline.suggest import did_you_mean

WORDS = ("tensorflow", "onnxruntime", "tf-trt", "tensorrt")


@pytest.mark.parametrize(("word", "meant"), [
    ("tensorflo", "tensorflow"), ("tensort", "tensorrt"), ("onnx-runtime", "onnxruntime"), ("tftrt", "tf-trt")])
def test_a_typo_finds_its_word(word: str, meant: str) -> None:
    assert did_you_mean(word, WORDS) == f"; did you mean '{meant}'?"


@pytest.mark.parametrize("word", ["", "zzz", "x" * 10_000])
def test_a_word_far_from_all_finds_none(word: str) -> None:
    assert did_you_mean(word, WORDS) == ""


def test_the_known_words_may_be_any_iterable_and_none() -> None:
    assert did_you_mean("tf_trt", iter(WORDS)) == "; did you mean 'tf-trt'?"
    assert did_you_mean("tensorflow", []) == ""
