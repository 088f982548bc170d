"""What `doctor` says of TF-TRT; the rest depends on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_pipeline import doctor

pytestmark = pytest.mark.slow


def test_it_says_what_of_tf_trt_works_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    found = {finding.what: finding for finding in doctor.examine()}
    assert found["TF-TRT convert"].ok
    assert found["TF-TRT convert"].found == "works here (TensorFlow 2.14.1, built for TensorRT 8.4.3)"
    assert not found["TF-TRT finalize"].ok
    assert "no NVIDIA GPU" in found["TF-TRT finalize"].cure
    assert "2.17-gpu" in found["TF-TRT serve"].found


def test_it_says_what_a_newer_tensorflow_lacks(tensorflow_221: Path) -> None:
    found = {finding.what: finding for finding in doctor.examine(tensorflow_221)}
    assert not found["TF-TRT convert"].ok
    assert "backends.tf-trt.python" in found["TF-TRT convert"].cure


def test_it_says_why_tensorflow_has_no_int8_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    found = doctor._tensorflow_int8()
    assert not found.ok
    assert found.cure.startswith("oneDNN is off: TF_ENABLE_ONEDNN_OPTS is 0: onnxruntime/int8")
