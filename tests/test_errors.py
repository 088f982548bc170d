"""Each kind of error has the exit status that the command line promises, and crosses a worker's boundary by name."""

from __future__ import annotations

import inspect
import re

import pytest

import trt_pipeline
from trt_pipeline import errors


@pytest.mark.parametrize(("name", "status"), [
    ("GateError", 1), ("InputError", 2), ("ModelError", 2), ("ConfigError", 2), ("SamplesError", 2),
    ("OutputError", 2), ("MissingError", 3)])
def test_exit_statuses(name: str, status: int) -> None:
    error = getattr(errors, name)("what is wrong")
    assert isinstance(error, errors.PipelineError)
    assert error.exit_status == status
    assert str(error) == "what is wrong"


@pytest.mark.parametrize("name", ["ModelError", "ConfigError", "SamplesError", "OutputError"])
def test_what_the_user_gave_is_one_branch(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.InputError)


@pytest.mark.parametrize("name", ["GateError", "MissingError"])
def test_what_the_user_did_not_give_is_not_of_it(name: str) -> None:
    assert not issubclass(getattr(errors, name), errors.InputError)


def test_unsupported_is_a_row_and_no_exit() -> None:
    assert not issubclass(errors.Unsupported, errors.PipelineError)
    assert not hasattr(errors.Unsupported, "exit_status")


def test_every_error_can_be_named_across_a_process() -> None:
    defined = {name: kind for name, kind in vars(errors).items()
               if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__}
    assert defined == errors.ERROR_TYPES


def test_every_error_is_part_of_the_public_api() -> None:
    assert errors.ERROR_TYPES.keys() <= set(trt_pipeline.__all__)
    assert all(getattr(trt_pipeline, name) is kind for name, kind in errors.ERROR_TYPES.items())


def test_the_docstring_draws_every_error_with_its_status() -> None:
    drawn = dict(re.findall(r"(\w+Error) +(\d) ", errors.__doc__ or ""))
    assert drawn == {name: str(kind.exit_status) for name, kind in errors.ERROR_TYPES.items()  # type: ignore[attr-defined]
                     if name not in ("PipelineError", "Unsupported")}
