"""Models of unusual shape: each converts and answers as the original, or is refused for a reason that it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.calibrated import calibrated
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, ConversionRequest
from trt_pipeline.errors import InputError, Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import Contract, differences

Converted = tuple[Artifact, Path, Contract]
GENERATOR = np.random.default_rng(11)


class Model(tf.Module):
    """A weight, a counter, and whatever signatures a test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(GENERATOR.normal(size=(6, 6)).astype(np.float32))
        self.calls = tf.Variable(0.0)


def save(module: tf.Module, folder: Path, **signatures: Any) -> Path:
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def function(call: Callable[..., Any], *shape: int | None) -> Any:
    return tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])


def convert(model: Path, name: str, precision: str, target: Path, samples: np.ndarray | None = None) -> Converted:
    contract = saved_model.read_contract(model)
    ranges = None
    if samples is not None:
        ranges = calibrated(model, {key: {"x": samples} for key in contract.signatures}, target / "ranges.json")
    request = ConversionRequest(model=model, tags=("serve",), signatures=tuple(contract.signatures),
                                precision=precision, ranges=ranges)
    return backend(name).convert(request, contract, target / "out"), target / "out", contract


def answers(name: str, converted: Converted, signature: str, x: np.ndarray) -> dict[str, np.ndarray]:
    artifact, folder, contract = converted
    with backend(name).load(artifact, folder, contract) as runner:
        return runner.infer(signature, {"x": x})


def original(model: Path, signature: str, x: np.ndarray) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in tf.saved_model.load(str(model)).signatures[signature](x=tf.constant(x)).items()}


def lstm() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(5)
    return tf.keras.Sequential([tf.keras.layers.Input((None, 6)), tf.keras.layers.LSTM(8), tf.keras.layers.Dense(3)])


def branches_in_a_loop(model: Model) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            doubled = tf.cond(tf.reduce_sum(y) > 0, lambda: y @ model.weight, lambda: y - 1.0)
            return i + 1, doubled / tf.reduce_max(tf.abs(doubled))

        return {"y": tf.while_loop(lambda i, y: i < 3, body, [0, x])[1]}

    return call


@pytest.mark.parametrize("name", ["tensorflow", "onnxruntime"])
def test_a_keras_lstm_with_free_length(name: str, tmp_path: Path) -> None:
    keras = lstm()
    model = save(keras, tmp_path / "model", serving_default=function(lambda x: {"y": keras(x)}, None, None, 6))
    x = GENERATOR.normal(size=(3, 7, 6)).astype(np.float32)
    got = answers(name, convert(model, name, "fp32", tmp_path), "serving_default", x)
    np.testing.assert_allclose(got["y"], original(model, "serving_default", x)["y"], atol=1e-5)


@pytest.mark.parametrize(("name", "precision", "tolerance"),
                         [("tensorflow", "fp32", 1e-5), ("onnxruntime", "fp32", 1e-5), ("onnxruntime", "int8", 0.1)])
def test_branches_inside_a_loop(name: str, precision: str, tolerance: float, tmp_path: Path) -> None:
    module = Model()
    call = branches_in_a_loop(module)
    model = save(module, tmp_path / "model",
                 serve=function(lambda x: {"y": call(x @ module.weight)["y"]}, None, 6))
    x = GENERATOR.normal(size=(4, 6)).astype(np.float32)
    converted = convert(model, name, precision, tmp_path, samples=x)
    got = answers(name, converted, "serve", x)
    np.testing.assert_allclose(got["y"], original(model, "serve", x)["y"], atol=tolerance)


def test_int8_of_a_fixed_batch_is_calibrated_with_that_batch(tmp_path: Path) -> None:
    module = Model()
    model = save(module, tmp_path / "model", serve=function(lambda x: {"y": x @ module.weight}, 4, 6))
    x = GENERATOR.normal(size=(10, 6)).astype(np.float32)
    converted = convert(model, "onnxruntime", "int8", tmp_path, samples=x)
    assert len(converted[0].low_precision["serve"].nodes) == 1
    got = answers("onnxruntime", converted, "serve", x[:4])["y"]
    assert 0 < np.abs(got - x[:4] @ module.weight.numpy()).max() < 0.2


@pytest.mark.parametrize("name", ["tensorflow", "onnxruntime"])
def test_a_model_that_changes_variables_is_refused(name: str, tmp_path: Path) -> None:
    module = Model()

    def counting(x: Any) -> Any:
        module.calls.assign_add(1.0)
        return {"y": x * module.calls}

    model = save(module, tmp_path / "model", serve=function(counting, None, 6))
    with pytest.raises(Unsupported, match=r"it changes variables when it is called \(AssignAddVariableOp\)"):
        convert(model, name, "fp32", tmp_path)


def test_a_signature_named_like_a_path_stays_inside_the_folder(tmp_path: Path) -> None:
    module = Model()
    names = {"../../out_of_it": function(lambda x: {"y": x @ module.weight}, None, 6)}
    model = save(module, tmp_path / "model", **names)
    artifact, folder, _ = convert(model, "onnxruntime", "fp32", tmp_path / "deep" / "down")
    written = (folder / artifact.files["../../out_of_it"]).resolve()
    assert written.is_relative_to(folder)
    assert not list(tmp_path.rglob("out_of_it"))


def test_tensorflow_keeps_a_check_that_refuses_bad_input(tmp_path: Path) -> None:
    module = Model()

    def checked(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0, message="too hot")]):
            return {"y": tf.identity(x) @ module.weight}

    model = save(module, tmp_path / "model", serve=function(checked, None, 6))
    converted = convert(model, "tensorflow", "fp32", tmp_path)
    assert answers("tensorflow", converted, "serve", np.ones((1, 6), np.float32))["y"].shape == (1, 6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too hot"):
        answers("tensorflow", converted, "serve", np.full((1, 6), 1000, np.float32))


def test_several_signatures_share_one_saved_model_and_keep_their_order(tmp_path: Path) -> None:
    module = Model()
    model = save(module, tmp_path / "model", zeta=function(lambda x: {"b": x @ module.weight, "a": x}, None, 6),
                 alpha=function(lambda x: {"one": tf.constant(1.0)}, None, 6))
    artifact, folder, contract = convert(model, "tensorflow", "fp32", tmp_path)
    assert list(contract.signatures) == ["zeta", "alpha"]
    assert differences(contract, saved_model.read_contract(folder / artifact.files["zeta"])) == []


def test_a_signature_that_the_candidate_lacks_is_an_error_of_ours(tmp_path: Path) -> None:
    module = Model()
    model = save(module, tmp_path / "model", one=function(lambda x: {"y": x @ module.weight}, None, 6),
                 two=function(lambda x: {"y": -x}, None, 6))
    artifact, folder, contract = convert(model, "onnxruntime", "fp32", tmp_path)
    lacking = artifact.model_copy(update={"files": {"one": artifact.files["one"]}})
    with pytest.raises(InputError, match="the candidate has no signature two: it has one"):
        answers("onnxruntime", (lacking, folder, contract), "two", np.ones((1, 6), np.float32))
