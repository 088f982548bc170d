"""Shared by all tests: the repository's folder, quick configurations, and the skip of GPU tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.config.schema import Config

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nvidia-smi") is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in configurations are relative to the repository."""
    monkeypatch.chdir(ROOT)


def quick_demo(serving: Path, **changes: Any) -> Config:
    """The demo's image signature, timed for a moment only."""
    values: dict[str, Any] = {
        "name": "demo", "model": str(ROOT / "models/demo/1"), "signatures": ["serving_default"],
        "samples": {"validation": str(ROOT / "calibration_data/demo_validation.npz"),
                    "calibration": str(ROOT / "calibration_data/demo.npz")},
        "benchmark": {"batch_sizes": [1], "duration_s": 0.2}, "max_batch_size": 8, "serving": str(serving)}
    return Config.model_validate(values | changes)
