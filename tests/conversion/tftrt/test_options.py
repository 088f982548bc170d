"""The options of the backend: what there is, and what a typo is answered with."""

from __future__ import annotations

from typing import Any

import pytest

from trt_pipeline.backends import backend
from trt_pipeline.conversion.tftrt.options import Options, parse
from trt_pipeline.errors import ConfigError


def test_nothing_given_is_the_defaults() -> None:
    assert parse({}) == Options(freeze="auto", calibrator="minmax")


def test_every_option_is_taken() -> None:
    given = {"freeze": "never", "calibrator": "tensorrt"}
    assert parse(given) == Options(freeze="never", calibrator="tensorrt")


def refusal(given: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        backend("tf-trt").check_options(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    text = refusal({"freese": "always"})
    assert text.startswith("backend tf-trt has no option 'freese': it has freeze, calibrator, profile_strategy; ")
    assert text.endswith("; did you mean 'freeze'?")


def test_a_word_that_is_like_none_gets_no_guess() -> None:
    assert "did you mean" not in refusal({"workspace": 3})


@pytest.mark.parametrize(("name", "value"), [
    ("freeze", "sometimes"), ("freeze", True), ("calibrator", "entropy")])
def test_a_value_that_there_is_not_is_refused_by_name(name: str, value: Any) -> None:
    assert refusal({name: value}).startswith(f"backend tf-trt, option {name}: ")


def test_the_choices_are_said() -> None:
    text = refusal({"freeze": "sometimes"})
    assert all(choice in text for choice in ("'auto'", "'always'", "'never'"))
