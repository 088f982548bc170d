"""What TensorRT lacks: types of inputs and outputs become int32 or are refused, and so are operators, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from tests.conversion.onnx_precision import nets
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.onnx_tensorrt.convert import Converted, convert
from trt_pipeline.engine.recipe import MODEL, ROUNDED
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model

OLD, NEW = (8, 5), (10, 13)
Spec = tf.TensorSpec


def made(function: Any, folder: Path, version: tuple[int, ...], *specs: Spec, precision: str = "fp32") -> Converted:
    module = tf.Module()
    module.weight = tf.Variable(np.eye(4, dtype=np.float32))
    module.serve = tf.function(lambda *given: function(module.weight, *given), input_signature=specs)
    tf.saved_model.save(module, str(folder / "saved"), signatures=module.serve)
    signature = saved_model.read_contract(folder / "saved").signatures["serving_default"]
    loaded = tf.saved_model.load(str(folder / "saved"))
    return convert(canonical(loaded.signatures["serving_default"]), signature, folder / "out", precision=precision,
                   version=version)


def ends(folder: Path, file: str = MODEL) -> dict[str, np.dtype]:
    graph = onnx.load(str(folder / "out" / file)).graph
    return {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in (*graph.input, *graph.output)}


@pytest.mark.parametrize("version", [OLD, NEW])
def test_int64_is_int32_where_there_is_no_int64(version: tuple[int, ...], tmp_path: Path) -> None:
    """Read by a gather, inside a branch, and returned as it is; made by a sum and by an argmax."""
    def serve(weight: tf.Tensor, ids: tf.Tensor, more: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.gather(weight, ids)
        taken = tf.cond(tf.reduce_max(ids) > 2, lambda: tf.gather(rows, more), lambda: rows * 2)
        return {"rows": taken, "sum": ids + more, "same": ids, "best": tf.argmax(tf.matmul(taken, weight), -1)}

    found = made(serve, tmp_path, version, Spec([None], tf.int64, "ids"), Spec([None], tf.int64, "more"))
    own = np.dtype(np.int64 if version == NEW else np.int32)
    names = ("ids", "more", "sum", "same", "best")
    assert found.recipe.narrowed == ({} if version == NEW else dict.fromkeys(names, "int64"))
    assert ends(tmp_path) == {"rows": np.dtype(np.float32), **dict.fromkeys(names, own)}
    for ids in ([0, 3, 1], [0, 1, 2]):
        got = nets.run(tmp_path / "out" / MODEL, {"ids": np.array(ids, own), "more": np.array([2, 1, 0], own)})
        rows = np.eye(4, dtype=np.float32)[ids]
        want = rows[[2, 1, 0]] if max(ids) > 2 else rows * 2
        np.testing.assert_array_equal(got["rows"], want)
        np.testing.assert_array_equal(got["best"], want.argmax(-1))
        np.testing.assert_array_equal(got["sum"], np.add(ids, [2, 1, 0]))
        np.testing.assert_array_equal(got["same"], ids)
        assert got["best"].dtype == own


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_rounds_takes_the_same_inputs(version: tuple[int, ...], tmp_path: Path) -> None:
    def serve(weight: tf.Tensor, ids: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(tf.cast(image, tf.float32) + tf.gather(weight, ids), weight)}

    found = made(serve, tmp_path, version, Spec([None], tf.int64, "ids"), Spec([None, 4], tf.uint8, "image"),
                 precision="fp16")
    assert found.recipe.narrowed == ({} if version == NEW else {"ids": "int64"})
    assert ends(tmp_path) == ends(tmp_path, ROUNDED)
    assert ends(tmp_path)["image"] == np.uint8  # at once cast to floats: TensorRT has that
    feeds = {"ids": np.array([1, 2], ends(tmp_path)["ids"]), "image": np.full((2, 4), 200, np.uint8)}
    np.testing.assert_array_equal(nets.run(tmp_path / "out" / ROUNDED, feeds)["y"], 200 + np.eye(4)[[1, 2]])


@pytest.mark.parametrize("version", [OLD, NEW])
def test_bool_and_float16_pass_and_small_integers_that_are_only_cast_become_int32(
        version: tuple[int, ...], tmp_path: Path) -> None:
    def serve(weight: tf.Tensor, mask: tf.Tensor, x: tf.Tensor, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        y = tf.matmul(tf.cast(x, tf.float32), weight) * tf.cast(steps, tf.float32)
        return {"y": tf.cast(tf.where(mask, y, -y), tf.float16), "positive": y > 0, "level": tf.cast(y, tf.int16),
                "pixel": tf.cast(tf.abs(y), tf.uint8)}

    found = made(serve, tmp_path, version, Spec([None, 4], tf.bool, "mask"), Spec([None, 4], tf.float16, "x"),
                 Spec([], tf.int8, "steps"))
    assert found.recipe.narrowed == {"steps": "int8", "level": "int16"}
    assert {name: dtype.name for name, dtype in ends(tmp_path).items()} == {
        "mask": "bool", "x": "float16", "steps": "int32", "y": "float16", "positive": "bool", "level": "int32",
        "pixel": "uint8"}
    x = np.array([[1, -2, 3, -4]], np.float16)
    got = nets.run(tmp_path / "out" / MODEL, {"mask": x > 2, "x": x, "steps": np.array(-3, np.int32)})
    np.testing.assert_array_equal(got["y"], [[3, -6, -9, -12]])
    np.testing.assert_array_equal(got["level"], [[-3, 6, -9, 12]])
    np.testing.assert_array_equal(got["pixel"], [[3, 6, 9, 12]])
    np.testing.assert_array_equal(got["positive"], [[False, True, False, True]])


@pytest.mark.parametrize(("spec", "message"), [
    (Spec([None, 4], tf.float64, "x"), "input 'x' is float64, which TensorRT has not; cast it outside of the engine"),
    (Spec([None, 4], tf.uint32, "x"), "input 'x' is uint32, which TensorRT has not"),
    (Spec(None, tf.float32, "x"), "input 'x' has no known rank, which TensorRT needs"),
])
def test_what_no_engine_can_take(spec: Spec, message: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=f"^signature serving_default: {message}"):
        made(lambda weight, x: {"y": tf.reshape(tf.cast(x, tf.float32), [-1, 4]) @ weight}, tmp_path, NEW, spec)


def test_an_output_of_float64(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="output 'y' is float64"):
        made(lambda weight, x: {"y": tf.cast(x @ weight, tf.float64)}, tmp_path, NEW, Spec([None, 4], tf.float32, "x"))


def test_small_integers_that_are_computed_with(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="input 'x' is int8, which TensorRT has only for quantized numbers, and the "
                                          "model does more with it than cast it; make it int32"):
        made(lambda weight, x: {"y": tf.cast(tf.concat([x, x], 0), tf.float32) @ weight}, tmp_path, OLD,
             Spec([None, 4], tf.int8, "x"))


def test_operators_that_its_parser_lacks(tmp_path: Path) -> None:
    def serve(weight: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.where(tf.math.is_inf(x, name="check"), x, x @ weight)}

    spec = Spec([None, 4], tf.float32, "x")
    with pytest.raises(Unsupported, match=r"^signature serving_default: TensorRT 8\.5 has no form for IsInf "
                                          r"\(.*check.*\); TensorRT 8\.6 is the first that has$"):
        made(serve, tmp_path, OLD, spec)
    made(serve, tmp_path / "new", (8, 6), spec)


def test_operators_that_no_version_has(tmp_path: Path) -> None:
    def serve(weight: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cast(tf.unique(tf.reshape(x, [-1]))[0], tf.float32) + weight[0, 0]}

    with pytest.raises(Unsupported, match=r"TensorRT 10\.13 has no form for Unique \(.*\); leave these operations to"):
        made(serve, tmp_path, NEW, Spec([None, 4], tf.float32, "x"))


def test_float64_inside_is_told(tmp_path: Path) -> None:
    def serve(weight: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cast(tf.cast(x @ weight, tf.float64) * 1.1, tf.float32)}

    found = made(serve, tmp_path, NEW, Spec([None, 4], tf.float32, "x"))
    assert found.facts["float64, which TensorRT computes in float32"]
