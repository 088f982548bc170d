"""What this interpreter can do with TF-TRT is found without calling what would abort it, and said in one line."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from tests.conftest import ROOT
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact
from trt_pipeline.conversion.tftrt import availability
from trt_pipeline.conversion.tftrt.availability import Availability, examine
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model

ARTIFACT = Artifact(kind="tensorrt-savedmodel", files={"serve": "model"})


def complete(**changes: Any) -> Availability:
    known: dict[str, Any] = {"tensorflow": "2.14.1", "compiled_in": True, "linked": "8.4.3", "loaded": "8.5.3",
                             "gpus": 1}
    return Availability(**known | changes)


def test_with_everything_nothing_stands_in_the_way() -> None:
    assert (complete().why_not_convert, complete().why_not_finalize) == ("", "")


def test_without_a_gpu_it_converts_and_cannot_finalize() -> None:
    assert complete(gpus=0).why_not_convert == ""
    assert "GPU" in complete(gpus=0, loaded="").why_not_finalize


def test_without_the_library_the_wanted_version_is_named() -> None:
    text = complete(loaded="").why_not_finalize
    assert "does not find TensorRT's library (it wants 8.4.3)" in text
    assert "pip install 'trt-pipeline[tensorrt]'" in text


@pytest.fixture
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tensorflow-cpu, and in TensorFlow from 2.18 on."""
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_tensorrt_build": False})
    monkeypatch.setattr(tf, "__version__", "2.21.0")


def test_a_build_without_tensorrt_is_named_with_what_to_use(without_tensorrt: None) -> None:
    found = examine()
    assert not found.compiled_in
    for text in (found.why_not_convert, found.why_not_finalize):
        assert text.startswith("TensorFlow 2.21.0 has no TF-TRT compiled in: ")
        assert "'tensorflow' wheel 2.14 to 2.17" in text
        assert "backends.tf-trt.python" in text


def test_the_backend_refuses_such_a_build(without_tensorrt: None) -> None:
    contract = saved_model.read_contract(ROOT / "models/demo/1")
    chosen = backend("tf-trt")
    assert not chosen.support(contract, "fp16").ok
    assert "no TF-TRT compiled in" in chosen.support(contract, "fp16").reason
    with pytest.raises(Unsupported, match="no TF-TRT compiled in"):
        chosen.coverage_of(ROOT / "models/demo/1", contract)


def test_here_it_converts_and_says_that_a_gpu_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    found = examine()
    assert (found.compiled_in, found.gpus, found.why_not_convert) == (True, 0, "")
    assert found.tensorflow == tf.__version__
    assert found.linked.count(".") == 2
    assert "GPU" in backend("tf-trt").why_pending(ARTIFACT)


def library(monkeypatch: pytest.MonkeyPatch, found: bool, loaded: Any) -> None:
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    monkeypatch.setattr(_pywrap_py_utils, "is_tensorrt_enabled", lambda: found)
    monkeypatch.setattr(_pywrap_py_utils, "get_loaded_tensorrt_version", loaded)


def test_the_loaded_version_is_not_asked_for_where_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question aborts the process there: 'getInferLibVersion symbol not found'."""

    def abort() -> Any:
        raise AssertionError("this would have ended the process")

    library(monkeypatch, False, abort)
    assert examine().loaded == ""


def test_the_loaded_version_is_asked_for_where_the_library_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, True, lambda: (8, 5, 3))
    assert examine().loaded == "8.5.3"
    assert availability.examine().linked != ""


def test_a_precision_that_there_is_not_is_answered_with_those_that_are() -> None:
    contract = saved_model.read_contract(ROOT / "models/demo/1")
    assert backend("tf-trt").support(contract, "bf16").reason == "tf-trt has no bf16: it has fp32, fp16, int8"
