"""Engines of TensorRT 8.5, built and run on a GPU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trt_pipeline import interpreter
from trt_pipeline.engine import profiles
from trt_pipeline.engine.profiles import Range

pytestmark = pytest.mark.gpu

Array = npt.NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]
CHANNELS = 16
# Relative to the largest output: what the arithmetic of each loses on this net.
BOUNDS = {"fp32": 1e-5, "tf32": 3e-3, "fp16": 5e-3, "int8": 0.1}
IMAGES = [{"image": Range((1, 8, 12, 12), (4, 8, 16, 16), (8, 8, 24, 24))},
          {"image": Range((1, 8, 16, 16), (1, 8, 16, 16), (1, 8, 16, 16))}]


def _ask(python: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(interpreter.command(python, "tests.engine.on_gpu_main", *arguments), capture_output=True,
                          text=True, env=interpreter.variables(python), cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _build(python: Path, folder: Path, target: Path, recipe: dict[str, Any], **told: Any) -> dict[str, Any]:
    whole = {"tensorrt": "8.5", "typed": False, **recipe}
    return _ask(python, "build", str(folder), str(target), json.dumps({"recipe": whole, **told}))


def _infer(python: Path, plan: Path, requests: Sequence[dict[str, Array]], scratch: Path,
           **told: Any) -> tuple[list[dict[str, Array]], dict[str, Any]]:
    feeds, outputs = scratch / "feeds.npz", scratch / "outputs.npz"
    np.savez(feeds, **{f"{number}/{name}": value for number, one in enumerate(requests) for name, value in one.items()})
    outputs.unlink(missing_ok=True)
    facts = _ask(python, "infer", str(plan), str(feeds), str(outputs), json.dumps(told))
    found: list[dict[str, Array]] = [{} for _ in requests]
    if outputs.exists():
        for key, value in np.load(outputs).items():
            number, _, name = key.partition("/")
            found[int(number)][name] = value
    return found, facts


def _conv_net(folder: Path, quantized: bool) -> Path:
    """Two convolutions with ReLU; quantized, with symmetric Q/DQ at each one's input and weights."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, constants, last = [], [], "image"
    for number, channels in enumerate((8, CHANNELS)):
        weights = random.normal(size=(CHANNELS, channels, 3, 3), scale=0.2).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{number}"))
        names = [last, f"w{number}"]
        if quantized:
            for place, (name, largest) in enumerate(((last, 4.0 * 5 ** number), (f"w{number}", np.abs(weights).max()))):
                scale, zero = f"{name}_scale{number}", f"{name}_zero{number}"
                constants += [numpy_helper.from_array(np.float32(largest / 127), scale),
                              numpy_helper.from_array(np.int8(0), zero)]
                low, names[place] = f"{name}_q{number}", f"{name}_d{number}"
                nodes += [helper.make_node("QuantizeLinear", [name, scale, zero], [low]),
                          helper.make_node("DequantizeLinear", [low, scale, zero], [names[place]])]
        nodes.append(helper.make_node("Conv", names, [f"c{number}"], f"conv{number}", pads=[1, 1, 1, 1]))
        last = "features" if number else "r0"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [last], f"relu{number}"))
    sizes = ["n", 8, "h", "w"]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", CHANNELS, "h", "w"])], constants)
    return _saved(graph, folder)


def _saved(graph: Any, folder: Path) -> Path:
    import onnx
    from onnx import helper

    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder


def _ids_net(folder: Path) -> Path:
    """int32 at both edges, as a conversion for 8.5 leaves int64, and a float matrix beside them."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    nodes = [helper.make_node("Add", ["ids", "one"], ["next"], "add"),
             helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n", "m"]),
                       helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("next", TensorProto.INT32, ["n", "m"]),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [weights, numpy_helper.from_array(np.int32(1), "one")])
    return _saved(graph, folder)


def _images(*shapes: tuple[int, int]) -> list[dict[str, Array]]:
    random = np.random.default_rng(1)
    return [{"image": random.normal(size=(batch, 8, size, size)).astype(np.float32)} for batch, size in shapes]


def _reference(folder: Path, request: dict[str, Array]) -> Array:
    import onnxruntime as ort

    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found: Array = session.run(["features"], request)[0]
    return found


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nets")
    return {"plain": _conv_net(folder / "plain", False), "int8": _conv_net(folder / "int8", True),
            "ids": _ids_net(folder / "ids")}


@pytest.fixture(scope="module")
def fp16(tensorrt_8: Path, nets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an fp16 engine with two profiles, and of the one for the graft."""
    target = tmp_path_factory.mktemp("fp16") / "built"
    done = _build(tensorrt_8, nets["plain"], target, {"precision": "fp16", "graft": True},
                  profiles=profiles.as_json(IMAGES))
    assert "error" not in done, done
    return target


@pytest.mark.parametrize("precision", list(BOUNDS))
def test_each_precision_is_in_the_engine_and_keeps_its_bound(precision: str, tensorrt_8: Path, nets: dict[str, Path],
                                                             tmp_path: Path) -> None:
    folder = nets["int8" if precision == "int8" else "plain"]
    done = _build(tensorrt_8, folder, tmp_path / "built", {"precision": precision},
                  profiles=profiles.as_json(IMAGES[:1]))
    assert "error" not in done, done
    assert done["counts"].get(precision, 0) >= (0 if precision == "tf32" else 1), done["counts"]
    if precision == "fp32":
        assert set(done["counts"]) == {"fp32"}
    request, = _images((4, 16))
    (made,), _ = _infer(tensorrt_8, tmp_path / "built" / "model.plan", [request], tmp_path)
    expected = _reference(folder, request)
    assert np.abs(made["features"] - expected).max() / np.abs(expected).max() < BOUNDS[precision]


def test_layers_kept_in_float32_are(tensorrt_8: Path, nets: dict[str, Path], tmp_path: Path) -> None:
    recipe = {"precision": "fp16", "fp32_layers": ["conv1", "relu1"]}
    done = _build(tensorrt_8, nets["plain"], tmp_path / "built", recipe,
                  profiles=profiles.as_json(IMAGES[:1]))
    assert done["notes"] == []
    assert done["counts"].get("fp32", 0) >= 1
    assert done["counts"].get("fp16", 0) >= 1


def test_bf16_is_refused_by_8(tensorrt_8: Path, nets: dict[str, Path], tmp_path: Path) -> None:
    done = _build(tensorrt_8, nets["plain"], tmp_path / "built", {"precision": "bf16"})
    assert done["error"] == "Unsupported: TensorRT 8.5.3.1 has no bf16: use 9.0 or later, or fp16"


@pytest.mark.parametrize("graphs", [False, True])
def test_every_shape_within_the_profiles_is_answered(graphs: bool, tensorrt_8: Path, nets: dict[str, Path], fp16: Path,
                                                     tmp_path: Path) -> None:
    """Back and forth between profiles and shapes, so that buffers grow and recordings are made anew."""
    requests = _images((1, 16), (4, 12), (8, 24), (1, 16), (2, 20))
    found, facts = _infer(tensorrt_8, fp16 / "model.plan", requests, tmp_path, graphs=graphs, times=3)
    assert facts["profiles"] == 2
    assert (facts["graphs"] > 0) == graphs
    for request, made in zip(requests, found, strict=True):
        expected = _reference(nets["plain"], request)
        assert np.abs(made["features"] - expected).max() / np.abs(expected).max() < BOUNDS["fp16"]


def test_a_recording_that_is_replayed_answers_as_it_would_without(tensorrt_8: Path, fp16: Path, tmp_path: Path) -> None:
    requests = _images((1, 16))
    (plain,), _ = _infer(tensorrt_8, fp16 / "model.plan", requests, tmp_path)
    (replayed,), facts = _infer(tensorrt_8, fp16 / "model.plan", requests, tmp_path, graphs=True, times=10)
    assert facts["graphs"] == 1
    np.testing.assert_array_equal(replayed["features"], plain["features"])


def test_transfers_are_counted(tensorrt_8: Path, fp16: Path, tmp_path: Path) -> None:
    _, facts = _infer(tensorrt_8, fp16 / "model.plan", _images((8, 24)), tmp_path, times=3)
    to_device, execution, to_host, sent, returned = facts["timing"]
    assert min(to_device, execution, to_host) > 0
    assert (sent, returned) == (8 * 8 * 24 * 24 * 4, 8 * CHANNELS * 24 * 24 * 4)


def test_a_shape_outside_is_refused_with_what_there_is(tensorrt_8: Path, fp16: Path, tmp_path: Path) -> None:
    _, facts = _infer(tensorrt_8, fp16 / "model.plan", _images((9, 16)), tmp_path)
    assert facts["error"].startswith("InputError: input 'image' has shape [9, 8, 16, 16], and the engine was built ")


def test_the_graft_has_the_names_that_tensorflow_looks_for(tensorrt_8: Path, fp16: Path, tmp_path: Path) -> None:
    request, = _images((1, 16))
    (plain,), _ = _infer(tensorrt_8, fp16 / "model.plan", [request], tmp_path)
    (made,), facts = _infer(tensorrt_8, fp16 / "graft.plan", [{"TensorRTInputPH_0": request["image"]}], tmp_path)
    assert (facts["inputs"], facts["outputs"]) == ({"TensorRTInputPH_0": "float32"}, {"TensorRTOutputPH_0": "float32"})
    # From one timing cache, so with the same kernels.
    np.testing.assert_array_equal(made["TensorRTOutputPH_0"], plain["features"])


def test_from_a_timing_cache_the_same_kernels_are_chosen(tensorrt_8: Path, nets: dict[str, Path], fp16: Path,
                                                         tmp_path: Path) -> None:
    done = _build(tensorrt_8, nets["plain"], tmp_path / "built", {"precision": "fp16"},
                  profiles=profiles.as_json(IMAGES), cache=str(fp16 / "timing.cache"))
    assert done["notes"] == []
    assert (tmp_path / "built" / "layers.json").read_text() == (fp16 / "layers.json").read_text()


def test_int64_is_narrowed_on_the_way_in_and_widened_on_the_way_out(tensorrt_8: Path, nets: dict[str, Path],
                                                                    tmp_path: Path) -> None:
    narrowed = {"ids": "int64", "next": "int64"}
    shapes = [{"ids": Range((1, 1), (2, 3), (4, 5)), "x": Range((1, 4), (2, 4), (4, 4))}]
    _build(tensorrt_8, nets["ids"], tmp_path / "built", {"precision": "fp32", "narrowed": narrowed},
           profiles=profiles.as_json(shapes))
    request = {"ids": np.array([[1, -2, 2**31 - 2]]), "x": np.ones((1, 4), np.float32)}
    (made,), _ = _infer(tensorrt_8, tmp_path / "built" / "model.plan", [request], tmp_path, narrowed=narrowed)
    assert made["next"].dtype == np.int64
    np.testing.assert_array_equal(made["next"], request["ids"] + 1)
    np.testing.assert_array_equal(made["y"], request["x"] @ np.arange(12, dtype=np.float32).reshape(4, 3))
    beyond = {**request, "ids": np.array([[2**31]])}
    _, facts = _infer(tensorrt_8, tmp_path / "built" / "model.plan", [beyond], tmp_path, narrowed=narrowed)
    assert facts["error"] == "InputError: input 'ids' holds 2147483648, which the engine cannot: it has int32 there"


def test_a_full_gpu_is_told_from_a_model_that_cannot_be_built(tensorrt_8: Path, nets: dict[str, Path],
                                                              tmp_path: Path) -> None:
    """Whether little is enough depends on the GPU; that nothing is not enough does not."""
    little = _build(tensorrt_8, nets["plain"], tmp_path / "little", {"precision": "fp16"}, leave=600 * 2**20,
                    profiles=profiles.as_json(IMAGES[:1]))
    assert little.get("workspace_bytes", 0) <= 600 * 2**20
    assert "memory" in little.get("error", "memory")
    nothing = _build(tensorrt_8, nets["plain"], tmp_path / "nothing", {"precision": "fp16"}, leave=2**20,
                     profiles=profiles.as_json(IMAGES[:1]))
    assert nothing["error"].startswith("MissingError: ")


def test_a_plan_of_another_machine_is_refused_naming_both(tensorrt_8: Path, fp16: Path, tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes((fp16 / "model.plan").read_bytes())
    built_on = json.loads((fp16 / "built_on.json").read_text())
    (tmp_path / "built_on.json").write_text(json.dumps({**built_on, "gpu": "Tesla V100", "compute_capability": "7.0"}))
    _, facts = _infer(tensorrt_8, plan, _images((1, 16)), tmp_path)
    assert facts["error"].startswith(f"MissingError: {plan}: the engine does not fit this machine: it was built for "
                                     f"Tesla V100 (compute capability 7.0), and this is {built_on['gpu']} (")


def test_what_is_no_plan_is_refused(tensorrt_8: Path, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"no plan at all" * 100)
    _, facts = _infer(tensorrt_8, tmp_path / "model.plan", _images((1, 16)), tmp_path)
    assert facts["error"].startswith(f"MissingError: TensorRT 8.5.3.1 cannot load {tmp_path / 'model.plan'}: ")
