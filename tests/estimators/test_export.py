"""`estimators.export`: one SavedModel, signatures on tf.Example and on raw tensors, complete or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.estimators.colours import NAMES, columns, features
from trt_pipeline import estimators
from trt_pipeline.errors import ConfigError, InputError, OutputError
from trt_pipeline.estimators.examples import serialize
from trt_pipeline.model import saved_model

CLASSIFY, REGRESS, PREDICT = (f"tensorflow/serving/{name}" for name in ("classify", "regress", "predict"))


def methods(folder: Path) -> dict[str, str]:
    return {name: one.method_name for name, one in saved_model.read_contract(folder).signatures.items()}


def described(tensors: dict[str, Any]) -> dict[str, str]:
    return {name: str(tensor) for name, tensor in tensors.items()}


def test_a_classifier_takes_examples_by_default_and_raw_tensors_in_predict(exported: Path) -> None:
    contract = saved_model.read_contract(exported)
    assert methods(exported) == {"serving_default": CLASSIFY, "predict": PREDICT}
    default, predict = contract.signatures["serving_default"], contract.signatures["predict"]
    assert described(default.inputs) == {"inputs": "string (-1)"}
    assert described(default.outputs) == {"classes": "string (-1,3)", "scores": "float32 (-1,3)"}
    assert described(predict.inputs) == {
        "colour": "string (-1,-1)", "place": "float32 (-1,2)", "size": "float32 (-1,1)"}
    assert described(predict.outputs) == {
        "all_class_ids": "int32 (-1,3)", "all_classes": "string (-1,3)", "class_ids": "int64 (-1,1)",
        "classes": "string (-1,1)", "logits": "float32 (-1,3)", "probabilities": "float32 (-1,3)"}


def test_both_signatures_say_what_the_estimator_says(exported: Path, classifier: Any) -> None:
    given = features(5, seed=1)
    expected = list(classifier.predict(lambda: tf.data.Dataset.from_tensor_slices(given).batch(5)))
    loaded = tf.saved_model.load(str(exported))
    raw = loaded.signatures["predict"](**{name: tf.constant(value) for name, value in given.items()})
    examples = [serialize({name: value[row] for name, value in given.items()}) for row in range(5)]
    parsed = loaded.signatures["serving_default"](inputs=tf.constant(examples))
    probabilities = np.array([one["probabilities"] for one in expected])
    np.testing.assert_allclose(raw["probabilities"], probabilities, rtol=1e-6)
    np.testing.assert_allclose(parsed["scores"], probabilities, rtol=1e-6)
    assert raw["classes"].numpy().tolist() == [one["classes"].tolist() for one in expected]
    assert parsed["classes"].numpy()[0].tolist() == [name.encode() for name in NAMES]


def test_a_sparse_feature_is_fed_as_rows_filled_up(exported: Path) -> None:
    """Two colours, one and none: the same by tf.Example, where nothing is filled up."""
    rows = [["red", "blue"], ["green"], []]
    loaded = tf.saved_model.load(str(exported))
    same = {"size": np.ones((3, 1), np.float32), "place": np.ones((3, 2), np.float32)}
    raw = loaded.signatures["predict"](
        colour=tf.constant([["red", "blue"], ["green", ""], ["", ""]]), **{k: tf.constant(v) for k, v in same.items()})
    examples = [serialize({"size": 1.0, "place": [1.0, 1.0]} | ({"colour": row} if row else {})) for row in rows]
    parsed = loaded.signatures["serving_default"](inputs=tf.constant(examples))
    np.testing.assert_allclose(raw["probabilities"], parsed["scores"], rtol=1e-6)
    assert len({tuple(row) for row in parsed["scores"].numpy().tolist()}) == 3


def test_a_tensorflow_1_session_as_in_tensorflow_serving_answers_both(exported: Path) -> None:
    given = features(2)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(exported)).signature_def
        predict, default = signatures["predict"], signatures["serving_default"]
        classes = session.run(predict.outputs["classes"].name,
                              {predict.inputs[name].name: value for name, value in given.items()})
        scores = session.run(default.outputs["scores"].name, {
            default.inputs["inputs"].name: [serialize({name: value[0] for name, value in given.items()})]})
    assert {name.decode() for name in classes.ravel()} <= set(NAMES)
    assert scores.shape == (1, 3)


def test_a_binary_head_keeps_its_regression_and_nothing_is_there_twice(binary: Any, tmp_path: Path) -> None:
    folder = estimators.export(binary, tmp_path / "m", features=columns())
    assert methods(folder) == {"serving_default": CLASSIFY, "predict": PREDICT, "regression": REGRESS}


def test_a_regressor_regresses_by_default(regressor: Any, tmp_path: Path) -> None:
    folder = estimators.export(regressor, tmp_path / "m", features=columns())
    assert methods(folder) == {"serving_default": REGRESS, "predict": PREDICT}
    outputs = saved_model.read_contract(folder).signatures["predict"].outputs
    assert described(outputs) == {"predictions": "float32 (-1,1)"}


def test_an_estimator_of_a_model_fn_names_its_own_outputs(tmp_path: Path) -> None:
    def model_fn(features: dict[str, tf.Tensor], labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        doubled = features["x"] * tf.compat.v1.get_variable("weight", [], initializer=tf.ones_initializer())
        outputs = tf.estimator.export.PredictOutput
        return tf.estimator.EstimatorSpec(
            mode, predictions=doubled, loss=tf.reduce_sum(doubled),
            train_op=tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1),
            export_outputs={"serving_default": outputs({"y": doubled}), "half": outputs({"z": doubled / 2})})

    estimator = tf.estimator.Estimator(model_fn, model_dir=str(tmp_path / "checkpoints"))
    estimator.train(lambda: tf.data.Dataset.from_tensors(({"x": [1.0]}, [0.0])), steps=1)
    folder = estimators.export(estimator, tmp_path / "m", features={"x": tf.io.FixedLenFeature([], tf.float32)})
    contract = saved_model.read_contract(folder)
    assert {name: described(one.inputs) for name, one in contract.signatures.items()} == {
        "serving_default": {"examples": "string (-1)"}, "half": {"x": "float32 (-1)"}, "predict": {"x": "float32 (-1)"}}


def test_versions_count_up_and_nothing_else_is_left(classifier: Any, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "colours"
    assert estimators.export(classifier, folder, features=columns()) == folder / "1"
    assert estimators.export(classifier, folder, features=columns(), version=7) == folder / "7"
    assert estimators.export(classifier, str(folder), features=columns()) == folder / "8"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "7", "8"]
    assert [path.name for path in folder.parent.iterdir()] == ["colours"]
    with pytest.raises(OutputError, match=r"cannot export to .*/7: it is there already"):
        estimators.export(classifier, folder, features=columns(), version=7)
    with pytest.raises(OutputError, match="versions count from 1"):
        estimators.export(classifier, folder, features=columns(), version=0)


def test_extra_assets_go_along(classifier: Any, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    folder = estimators.export(classifier, tmp_path / "m", features=columns(),
                               assets_extra={"labels.txt": tmp_path / "labels.txt"})
    assert list(saved_model.read_contract(folder).extra_assets) == ["labels.txt"]


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(classifier: Any, tmp_path: Path) -> None:
    untrained = tf.estimator.LinearRegressor(columns(), model_dir=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"cannot be exported: .*trained model"):
        estimators.export(untrained, tmp_path / "m", features=columns())
    with pytest.raises(InputError, match="int is no Estimator"):
        estimators.export(1, tmp_path / "m", features=columns())
    ragged = {"x": tf.io.RaggedFeature(tf.int64)}
    with pytest.raises(ConfigError, match="feature 'x' is a RaggedFeature"):
        estimators.export(classifier, tmp_path / "m", features=ragged)
    with pytest.raises(ConfigError, match="name at least one"):
        estimators.export(classifier, tmp_path / "m", features={})
    with pytest.raises(InputError, match=r"cannot be exported: .*colour") as told:
        estimators.export(classifier, tmp_path / "m", features=columns()[:2])
    assert "\n" not in str(told.value)
    assert not (tmp_path / "m").exists()


def test_a_tensorflow_without_estimators_says_so_and_still_predicts(tensorflow_221: Path, exported: Path) -> None:
    code = ("import sys; from trt_pipeline import estimators; from trt_pipeline.errors import MissingError\n"
            "predictor = estimators.Predictor(sys.argv[1])\n"
            "print(sorted(predictor({'size': [1.0], 'place': [[1.0, 2.0]], 'colour': ['red']}))[0])\n"
            "try: estimators.export(None, sys.argv[2], features={})\n"
            "except MissingError as error: print(error)")
    told = subprocess.run([str(tensorflow_221), "-c", code, str(exported), str(exported.parent)], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert told.stdout.splitlines() == [
        "all_class_ids",
        "TensorFlow 2.21.0 has no Estimators: export with 2.15 or earlier (pip install 'tensorflow<2.16')"], told.stderr


def test_importing_the_package_imports_no_tensorflow() -> None:
    code = "import sys, trt_pipeline.estimators; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
