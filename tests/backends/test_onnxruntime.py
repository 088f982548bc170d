"""Without the packages of ONNX, everything else goes on, and what needs them says how to get them."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from trt_pipeline import inspection
from trt_pipeline.backends import backend
from trt_pipeline.model.contract import Contract


def test_it_is_unsupported_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> Any:
        return None if name in ("onnx", "tf2onnx") else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    contract = Contract(tags=("serve",), signatures={}, assets={}, extra_assets={}, tables=0, variable_bytes=0,
                        tensorflow_version="")
    support = backend("onnxruntime").support(contract, "fp32")
    assert not support.ok
    assert support.reason == f"{sys.executable} lacks onnx, tf2onnx: {sys.executable} -m pip install onnx tf2onnx"


def test_an_inspection_names_the_package_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    found = inspection.inspect(ROOT / "models/demo/1").signatures["lookup"].blockers
    assert found["tensorflow"] == ()
    assert [blocker.why for blocker in found["onnxruntime"]] == ["needs the package tf2onnx: pip install tf2onnx"]
