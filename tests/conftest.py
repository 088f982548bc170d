"""Shared by all tests: the repository's folder, quick configurations, their order, and the skip of GPU tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.config.schema import Config

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Whole files are dealt out in this order: the slow ones first, so that no processor waits for one at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if shutil.which("nvidia-smi") is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in configurations are relative to the repository."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def tensorflow_217() -> Path:
    """An interpreter with TensorFlow 2.17 and what a worker needs, and no more."""
    return _environment("tf2.17")


@pytest.fixture(scope="session")
def tensorflow_221() -> Path:
    """An interpreter with TensorFlow 2.21 and what a run needs, ONNX left out."""
    return _environment("tf2.21")


@pytest.fixture(scope="session")
def tensorrt_8() -> Path:
    """An interpreter with TensorRT 8.5 and what builds and runs engines, and no more."""
    return _environment("trt8.5")


@pytest.fixture(scope="session")
def tensorrt_11() -> Path:
    """An interpreter with the bindings of TensorRT 11 over empty libraries."""
    return _environment("trt11")


def _environment(name: str) -> Path:
    python = ROOT / f".venv-{name}" / "bin" / "python"
    if not (python.parents[1] / ".ready").is_file():
        pytest.fail(f"there is no {python}: run make environments")
    return python


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the standard library only."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def quick_demo(serving: Path, **changes: Any) -> Config:
    """The demo's image signature, timed for a moment only."""
    values: dict[str, Any] = {
        "name": "demo", "model": str(ROOT / "models/demo/1"), "signatures": ["serving_default"],
        "samples": {"validation": str(ROOT / "calibration_data/demo_validation.npz"),
                    "calibration": str(ROOT / "calibration_data/demo.npz")},
        "benchmark": {"batch_sizes": [1], "duration_s": 0.2}, "max_batch_size": 8, "serving": str(serving)}
    return Config.model_validate(values | changes)
