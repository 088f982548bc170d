"""What a build tries after which failure, and what lies beside the plan, over a simulated builder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline import interpreter

ROOT = Path(__file__).resolve().parents[2]
OBEY, PREFER = ["FP16", "OBEY_PRECISION_CONSTRAINTS"], ["FP16", "PREFER_PRECISION_CONSTRAINTS"]
BESIDE = ["built_on.json", "layers.json", "model.plan", "timing.cache", "timing.cache.json"]
HALF_GIB = 2**29


@pytest.fixture(scope="module", params=["tensorrt_8", "tensorrt_11"])
def built(request: pytest.FixtureRequest) -> dict[str, Any]:
    """By scenario, what was tried and what came of it."""
    python = request.getfixturevalue(request.param)
    done = subprocess.run(interpreter.command(python, "tests.engine.simulated_build_main"), capture_output=True,
                          text=True, env=interpreter.variables(python), cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "flags": request.param == "tensorrt_8"}


def _attempts(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in made["tried"] if "workspace" in one]


def test_both_plans_are_built_of_one_network(built: dict[str, Any]) -> None:
    """The second from the first's timing cache, its bindings named and ordered as TRTEngineOp is fed: a, b."""
    made = built["well"]
    first, second = _attempts(made)
    assert made["files"] == sorted([*BESIDE, "graft.plan"])
    assert (first["names"], first["cache"]) == (["b", "a", "y", "z"], "")
    assert second["names"] == ["TensorRTInputPH_1", "TensorRTInputPH_0", "TensorRTOutputPH_0", "TensorRTOutputPH_1"]
    assert second["cache"] == "times of "
    profiles = [one["profile"] for one in made["tried"] if "profile" in one]
    assert [name for name, *_ in profiles] == ["a", "b", "TensorRTInputPH_0", "TensorRTInputPH_1"]
    assert profiles[0][1:] == [[1, 8], [2, 8], [4, 8]]
    extent = {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}
    assert made["profiles"] == [{"a": extent, "b": extent}]  # as the signature has them


def test_layers_are_kept_in_float32_by_flags_alone(built: dict[str, Any]) -> None:
    """Their integer outputs are left alone; in 11 the graph's own types say it, and an ILayer has no precision."""
    made = built["well"]
    assert [one["on"] for one in _attempts(made)] == ([OBEY, OBEY] if built["flags"] else [[], []])
    assert made["fixed"] == ([[0, "DataType.FLOAT"]] if built["flags"] else [])
    assert made["notes"] == (["1 of 2 nodes that were to stay in float32 are no layers of the network, such as 'gone'"]
                             if built["flags"] else [])


def test_out_of_memory_is_retried_with_less_and_no_implementation_without_the_constraint(built: dict[str, Any]) -> None:
    made = built["retried"]
    tried = [(int(one["workspace"]), one["on"]) for one in _attempts(made)]
    if not built["flags"]:
        assert [size for size, _ in tried] == [HALF_GIB, HALF_GIB // 2, HALF_GIB // 4]
        assert made["error"].startswith("Unsupported: TensorRT 11.4.0.106 on NVIDIA A10: TensorRT has no ")
        return
    assert tried == [(HALF_GIB, OBEY), (HALF_GIB // 2, OBEY), (HALF_GIB // 4, OBEY), (HALF_GIB // 4, PREFER),
                     (HALF_GIB // 4, PREFER)]  # the last is the graft
    assert made["workspace"] == HALF_GIB // 4
    assert made["notes"][1:] == [
        "the GPU's memory does not suffice (15.4 GiB were asked for): built with a workspace of 0.25 GiB",
        "the GPU's memory does not suffice (15.4 GiB were asked for): built with a workspace of 0.12 GiB",
        "TensorRT has no implementation at softmax in float32: built with one in another precision there"]


def test_what_cannot_be_built_says_which_of_the_two_it_is(built: dict[str, Any]) -> None:
    full, impossible = built["full"], built["impossible"]
    assert len(_attempts(full)) == 6
    assert full["error"].startswith("MissingError: TensorRT ")
    assert "A10: the GPU's memory does not suffice (15.4 GiB were asked for), with 1.0 GiB free" in full["error"]
    assert len(_attempts(impossible)) == 1
    assert impossible["error"].endswith("on NVIDIA A10: TensorRT has no implementation at softmax in fp16")
    assert full["files"] == impossible["files"] == []


def test_an_engine_without_the_precision_asked_for_is_an_error(built: dict[str, Any]) -> None:
    assert built["higher"]["error"].startswith(
        "PipelineError: the engine was asked for in fp16, and none of its 1 layers is in it (1 in fp32)")


def test_a_timing_cache_is_used_again_on_the_same_machine_alone(built: dict[str, Any]) -> None:
    again, = _attempts(built["again"])
    assert (again["cache"], built["again"]["notes"], built["again"]["files"]) == ("times of ", [], BESIDE)
    elsewhere, = _attempts(built["elsewhere"])
    assert elsewhere["cache"] == ""
    note, = built["elsewhere"]["notes"]
    assert "was made with gpu NVIDIA A100, and this is NVIDIA A10: it is left out" in note
