"""The committed iris model keeps its contract and tells irises apart; its recipe makes the same weights again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.iris.classifier import classifier, columns, train
from models.iris.flowers import FEATURES, SPECIES, load_split
from models.iris.samples import examples, rows, write_samples
from trt_pipeline import estimators
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences

ROOT = Path(__file__).parents[2]
IRIS = ROOT / "models" / "iris" / "1"
SAMPLES = ROOT / "calibration_data"


@pytest.fixture(scope="module")
def predictor() -> estimators.Predictor:
    return estimators.Predictor(IRIS)


def test_it_classifies_examples_and_predicts_from_raw_tensors(predictor: estimators.Predictor) -> None:
    signatures = predictor.contract.signatures
    assert {name: one.method_name for name, one in signatures.items()} == {
        "serving_default": "tensorflow/serving/classify", "predict": "tensorflow/serving/predict"}
    assert {name: str(tensor) for name, tensor in signatures["predict"].inputs.items()} == dict.fromkeys(
        sorted(FEATURES), "float32 (-1,1)")
    assert str(signatures["serving_default"].inputs["inputs"]) == "string (-1)"


def test_it_names_held_out_flowers(predictor: estimators.Predictor) -> None:
    _, held_out = load_split()
    found = predictor(held_out.features())
    assert np.mean(found["classes"][:, 0] == np.char.encode(held_out.names())) > 0.95
    np.testing.assert_allclose(found["probabilities"].sum(1), 1.0, rtol=1e-5)


def test_both_signatures_say_the_same(predictor: estimators.Predictor) -> None:
    _, held_out = load_split()
    classified, predicted = predictor.classify(examples(held_out)), predictor(rows(held_out))
    np.testing.assert_allclose(classified["scores"], predicted["probabilities"], rtol=1e-6)
    assert classified["classes"][3].tolist() == [name.encode() for name in SPECIES]


def test_the_readme_s_flower_is_a_setosa(predictor: estimators.Predictor) -> None:
    found = predictor({"SepalLength": [5.1], "SepalWidth": [3.3], "PetalLength": [1.7], "PetalWidth": [0.5]})
    assert found["classes"].tolist() == [[b"setosa"]]
    assert found["probabilities"][0, 0] > 0.9


def test_the_recipe_trains_the_same_every_time_and_exports_the_same_contract(tmp_path: Path) -> None:
    training, _ = load_split()
    made = []
    for name in ("first", "second"):
        estimator = classifier(training, tmp_path / name)
        train(estimator, training, steps=5)
        made.append({name: estimator.get_variable_value(name) for name in estimator.get_variable_names()})
    for name, value in made[0].items():
        np.testing.assert_array_equal(value, made[1][name], name)
    folder = estimators.export(estimator, tmp_path / "iris", features=columns(training))
    assert differences(saved_model.read_contract(IRIS), saved_model.read_contract(folder)) == []


def test_calibration_and_validation_flowers_are_disjoint() -> None:
    calibration, validation = ({tuple(row) for row in np.concatenate(
        [np.load(SAMPLES / f"iris{role}.npz")[name] for name in FEATURES], axis=1).tolist()}
        for role in ("", "_validation"))
    assert (len(calibration), len(validation)) == (104, 45)
    assert not calibration & validation


def test_the_committed_samples_are_what_the_recipe_writes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    written = sorted(tmp_path.iterdir())
    assert len(written) == 4
    for file in written:
        if file.suffix == ".npz":  # another zlib may compress the same arrays differently
            before, after = np.load(SAMPLES / file.name), np.load(file)
            assert list(before) == list(after) == list(FEATURES)
            for name in FEATURES:
                np.testing.assert_array_equal(before[name], after[name])
        else:
            assert file.read_bytes() == (SAMPLES / file.name).read_bytes()


def test_the_records_hold_the_same_flowers_as_the_arrays() -> None:
    for role in ("", "_validation"):
        records = tf.data.TFRecordDataset(str(SAMPLES / f"iris_examples{role}.tfrecord"))
        parsed = tf.io.parse_example([record.numpy() for record in records],
                                     {name: tf.io.FixedLenFeature([1], tf.float32) for name in FEATURES})
        arrays = np.load(SAMPLES / f"iris{role}.npz")
        for name in FEATURES:
            np.testing.assert_array_equal(parsed[name], arrays[name])
