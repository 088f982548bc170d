"""The table of backends agrees with the backends themselves."""

from __future__ import annotations

import pytest

from trt_pipeline.backends import BACKENDS, backend
from trt_pipeline.errors import ConfigError


@pytest.mark.parametrize("name", BACKENDS)
def test_the_table_says_what_the_class_says(name: str) -> None:
    made = backend(name)
    assert made.name == name
    assert made.precisions == BACKENDS[name][2]


def test_an_unknown_backend_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'onnxruntime'"):
        backend("onnxruntim")
