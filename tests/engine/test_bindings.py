"""What engine/ asks of TensorRT is there, in the real bindings of both generations."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trt_pipeline import interpreter
from trt_pipeline.engine import availability
from trt_pipeline.engine.cuda import FUNCTIONS

ENGINE = Path(availability.__file__).parent
# How engine/ calls an object of TensorRT's -> its class; "tensorrt" is the module.
CLASSES = {
    "tensorrt": "", "_tensorrt": "", "builder": "Builder", "definition": "INetworkDefinition", "parser": "OnnxParser",
    "layer": "ILayer", "tensor": "ITensor", "_engine": "ICudaEngine", "engine": "ICudaEngine",
    "context": "IExecutionContext", "runtime": "Runtime", "config": "IBuilderConfig", "inspector": "EngineInspector",
    "made": "IOptimizationProfile", "error": "ParserError", "cache": "ITimingCache"}
# The files in which these words mean something of TensorRT's.
FILES = {"network.py": set(CLASSES), "build.py": {"builder", "config", "made", "runtime", "tensorrt"},
         "runner.py": {"_engine", "engine", "context", "runtime", "tensorrt", "_tensorrt"},
         "inspect.py": {"engine", "inspector", "tensorrt"},
         "timing_cache.py": {"config", "cache"}, "log.py": {"tensorrt"}, "flags.py": {"config", "tensorrt"},
         "availability.py": {"tensorrt"}}
# What one generation lacks is used only where it is: asked for first, or of recipes for the other alone.
ONLY_IN_8 = {("ILayer", "precision"), ("ILayer", "set_output_type")}
ONLY_LATER = {("ILayer", "metadata"), ("ParserError", "node_name"), ("ParserError", "node_operator"),
              ("Runtime", "engine_host_code_allowed"), ("OnnxParser", "set_flag"), ("", "OnnxParserFlag"),
              ("", "HardwareCompatibilityLevel"), ("OnnxParserFlag", "NATIVE_INSTANCENORM")}
GENERATIONS = ["tensorrt_8", "tensorrt_11"]


class Use(NamedTuple):
    kind: str
    name: str
    arguments: int
    """How many a call has; -1 where it is no call, or has a starred one."""


def _word(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _uses() -> set[Use]:
    found: set[Use] = set()
    for file, words in FILES.items():
        tree = ast.parse((ENGINE / file).read_text())
        called = {id(node.func): -1 if any(isinstance(one, ast.Starred) for one in node.args) else len(node.args)
                  for node in ast.walk(tree) if isinstance(node, ast.Call) and not node.keywords}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner, word = node.value, _word(node.value)
            if word in words:
                found.add(Use(CLASSES[word], node.attr, called.get(id(node), -1)))
            elif isinstance(owner, ast.Attribute) and _word(owner.value) in ("tensorrt", "_tensorrt"):
                found.add(Use(owner.attr, node.attr, -1))
    return found


@pytest.fixture(scope="module", params=GENERATIONS)
def bindings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return _ask(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def both(tensorrt_8: Path, tensorrt_11: Path) -> list[dict[str, Any]]:
    return [_ask(tensorrt_8), _ask(tensorrt_11)]


_ANSWERS: dict[Path, dict[str, Any]] = {}


def _ask(python: Path) -> dict[str, Any]:
    if python not in _ANSWERS:
        done = subprocess.run(interpreter.command(python, "tests.engine.bindings_main"), capture_output=True, text=True,
                              env=interpreter.variables(python), cwd=ENGINE.parents[1], check=False)
        assert done.returncode == 0, done.stderr
        _ANSWERS[python] = json.loads(done.stdout)
    return _ANSWERS[python]


def test_everything_that_is_used_is_there(bindings: dict[str, Any]) -> None:
    old = bindings["availability"]["version"].startswith("8.")
    used = [use for use in _uses() if (use.kind, use.name) not in (ONLY_LATER if old else ONLY_IN_8)]
    assert len(used) > 60
    for kind, name, _ in used:
        there = bindings["classes"].get(kind, {}) if kind else bindings["names"]
        assert name in there, f"{kind or 'tensorrt'}.{name}"


def test_methods_take_as_many_arguments_as_they_are_given(bindings: dict[str, Any]) -> None:
    checked = 0
    for kind, name, count in _uses():
        signature = bindings["classes"].get(kind, {}).get(name, "").partition("\n")[0]
        taken = re.fullmatch(r"\w+\(self: [^,)]+(?P<others>.*)\) -> .+", signature)
        if count < 0 or not taken:
            continue
        parameters = re.findall(r", \w+: [^,=]+(?P<default>=)?", re.sub(r"\[[^]]*\]", "", taken["others"]))
        assert len(parameters) - parameters.count("=") <= count <= len(parameters), (signature, count)
        checked += 1
    assert checked > 15


def test_each_generation_lacks_what_is_said_to_be_the_others(both: list[dict[str, Any]]) -> None:
    """Or nothing would notice that an exception above is none any more."""
    for missing, there in ((ONLY_LATER, both[0]), (ONLY_IN_8, both[1])):
        for kind, name in missing:
            assert name not in (there["classes"].get(kind, {}) if kind else there["names"])


def test_flags_of_8(both: list[dict[str, Any]]) -> None:
    made = both[0]["configured"]
    assert {name: made[f"{name} plain"]["on"] for name in ("fp32", "tf32", "fp16", "int8")} == {
        "fp32": [], "tf32": ["TF32"], "fp16": ["FP16", "OBEY_PRECISION_CONSTRAINTS"],
        "int8": ["INT8", "OBEY_PRECISION_CONSTRAINTS"]}
    assert made["fp16 plain"]["bits"] == 1  # EXPLICIT_BATCH is bit 0 there
    assert made["bf16 plain"] == "TensorRT 8.5.3.1 has no bf16: use 9.0 or later, or fp16"
    assert "use 8.6 or later" in made["fp16 compatible"]


def test_flags_of_11(both: list[dict[str, Any]]) -> None:
    made = both[1]["configured"]
    for precision in ("fp32", "fp16", "bf16", "int8"):
        assert made[f"{precision} plain"]["on"] == []
        assert made[f"{precision} plain"]["network"] == ["STRONGLY_TYPED"]
        assert made[f"{precision} compatible"]["on"] == ["VERSION_COMPATIBLE"]
    assert made["tf32 plain"]["on"] == ["TF32"]
    told = made["int8 compatible"]["set"]
    assert told["hardware_compatibility_level"] == "HardwareCompatibilityLevel.AMPERE_PLUS"
    assert told["builder_optimization_level"] == "5"
    assert told["set_memory_pool_limit"] == ["MemoryPoolType.WORKSPACE", "1"]


def test_every_type_that_the_runner_knows_is_one_of_tensorrts(both: list[dict[str, Any]]) -> None:
    from trt_pipeline.engine.runner import DTYPES

    assert set(DTYPES) - {"INT64"} <= set(both[0]["members"]["DataType"])
    assert set(DTYPES) <= set(both[1]["members"]["DataType"])


def test_nothing_else_is_needed_there(bindings: dict[str, Any]) -> None:
    """Every module of engine/ was imported."""
    assert bindings["foreign"] == []
    assert bindings["functions"] == list(FUNCTIONS)


def test_cuda_is_that_of_the_environment(both: list[dict[str, Any]], tensorrt_8: Path, tensorrt_11: Path) -> None:
    """Whatever CUDA the machine has."""
    for one, python, file in zip(both, (tensorrt_8, tensorrt_11), ("libcudart.so.11.0", "libcudart.so.12"),
                                 strict=True):
        found = Path(one["cuda"])
        assert found.name == file
        assert found.is_relative_to(python.parents[1])


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_without_a_gpu_it_says_so(both: list[dict[str, Any]]) -> None:
    for one, version in zip(both, ("8.5.3.1", "11.4.0.106"), strict=True):
        found = one["availability"]
        assert (found["version"], found["gpu"], found["total_bytes"]) == (version, "", 0)
        assert found["polygraphy"]
        assert found["why_not_build"].startswith("CUDA sees no NVIDIA GPU here")
    assert "CUDA initialization failure with error: 35" in both[0]["start"]


def test_without_tensorrt_it_says_what_to_install() -> None:
    found = availability.examine()
    assert (found.version, found.polygraphy) == ("", "")
    assert f"{sys.executable} has no TensorRT: pip install 'trt-pipeline[tensorrt]' under" in found.why_not_build
    assert "no polygraphy" in found.why_not_build


def test_a_tensorrt_that_does_not_load_is_told_from_none(tensorrt_8: Path, tmp_path: Path) -> None:
    """Its wheel, under a Python that it was not built for, or without CUDA's libraries: TensorRT 8 names none."""
    real, = tensorrt_8.parents[1].glob("lib/python3.10/site-packages/tensorrt")
    shutil.copytree(real, tmp_path / "tensorrt", ignore=shutil.ignore_patterns("*.so.8*"))
    code = "from trt_pipeline.engine import availability; print(availability.examine().why_not_build)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=interpreter.variables(None) | {"PYTHONPATH": f"{tmp_path}:{ENGINE.parents[1]}"})
    assert re.match(rf"{re.escape(sys.executable)} cannot load TensorRT .*\(.+\): install the CUDA", done.stdout)
