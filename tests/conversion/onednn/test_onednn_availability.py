"""Why int8 is not to be had on a machine, said without TensorFlow."""

import sys

import pytest

from trt_pipeline.conversion.onednn.availability import why_not


@pytest.fixture
def with_vnni(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\n")
    return file


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni"])
def test_it_is_where_the_processor_has_vnni(with_vnni, flag):
    with_vnni.write_text(f"flags\t: fpu {flag}\n")
    assert why_not(with_vnni) == ""


def test_an_older_processor(with_vnni):
    with_vnni.write_text("flags\t: fpu avx2 avx512f\n")
    assert why_not(with_vnni) == "this processor has no VNNI (int8 dot products)"


def test_oendnn_switched_off(with_vnni, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert "TF_ENABLE_ONEDNN_OPTS" in why_not(with_vnni)


def test_another_system(with_vnni, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "darwin" in why_not(with_vnni)


def test_no_cpuinfo(with_vnni):
    assert "VNNI" in why_not(with_vnni.parent / "none")


def test_an_old_tensorflow(with_vnni, monkeypatch):
    monkeypatch.setattr("trt_pipeline.conversion.onednn.availability.version", lambda name: "2.11.0")
    assert why_not(with_vnni) == "TensorFlow 2.11.0 is older than 2.14"
