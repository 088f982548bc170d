"""What the runner tells TensorRT and CUDA, over a simulated engine; a real one runs in test_engine_on_gpu."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline import interpreter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["tensorrt_8", "tensorrt_11"])
def simulated(request: pytest.FixtureRequest) -> dict[str, Any]:
    """By scenario, what was counted; every answer was compared with numpy's there."""
    python = request.getfixturevalue(request.param)
    done = subprocess.run(interpreter.command(python, "tests.engine.simulated_main"), capture_output=True, text=True,
                          env=interpreter.variables(python), cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "generation": request.param}


def test_there_is_one_context_for_each_profile(simulated: dict[str, Any]) -> None:
    assert simulated["plain"]["contexts"] == 2
    assert simulated["plain"]["launches"] == 0


def test_each_shape_is_recorded_and_replayed(simulated: dict[str, Any]) -> None:
    """Of nine requests the first of a shape runs as it is, and so does the first after its memory moved."""
    made = simulated["graphs"]
    assert made["launches"] == 4
    # In 8 contexts do not share profiles, so a shape that comes back is recorded anew.
    assert made["contexts"] == {"tensorrt_8": 4, "tensorrt_11": 3}[simulated["generation"]]


def test_outputs_whose_size_the_values_decide_are_not_recorded(simulated: dict[str, Any]) -> None:
    assert simulated["picks"]["launches"] == 0


def test_what_cannot_be_recorded_runs_without(simulated: dict[str, Any]) -> None:
    assert simulated["refused"]["launches"] == 0


def test_nothing_is_left_behind(simulated: dict[str, Any]) -> None:
    for name in ("plain", "graphs", "picks", "refused"):
        assert simulated[name]["held"] == (10 if name == "picks" else 8)  # host and GPU, each tensor
        assert (simulated[name]["leaked"], simulated[name]["alive"]) == (0, 0)


def test_transfers_are_counted(simulated: dict[str, Any]) -> None:
    timing = simulated["plain"]["timing"]
    assert timing["bytes_to_device"] == timing["bytes_to_host"] == 4 * 4 * (4 + 4)
    assert {"to_device", "execution", "to_host"} < timing.keys()


def test_requests_that_do_not_fit_are_refused_by_name(simulated: dict[str, Any]) -> None:
    assert simulated["plain"]["refused"] == [
        "input 'x' has shape [9, 1], and the engine was built for [1, 1] to [8, 16] or [1, 1] to [1, 16]",
        "input 'ids' is missing; the engine takes x, ids",
        "input 'ids' holds 1099511627776, which the engine cannot: it has int32 there",
        *["model.plan failed: TensorRT refuses shape [3, 1] of 'x'; it gives no reason"] * 2]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_a_plan_from_elsewhere_names_both_sides(simulated: dict[str, Any]) -> None:
    elsewhere, unknown = simulated["loading"]
    version = {"tensorrt_8": "8.5.3.1", "tensorrt_11": "11.4.0.106"}[simulated["generation"]]
    assert ("model.plan: the engine does not fit this machine: it was built with TensorRT 10.3.0, and this is "
            f"{version}; it was built for NVIDIA A10, and CUDA sees no NVIDIA GPU here; build it again") in elsewhere
    assert f"TensorRT {version} cannot start" in unknown
