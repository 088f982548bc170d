"""`estimators.Predictor`: requests as a program has them, answered without building a graph."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.colours import NAMES, columns, features
from trt_pipeline import estimators
from trt_pipeline.errors import ConfigError, InputError, ModelError
from trt_pipeline.estimators.examples import serialize

ONE: dict[str, Any] = {"size": [0.5], "place": [[1.0, -1.0]], "colour": [["red", "blue"]]}


@pytest.fixture(scope="module")
def predictor(exported: Path) -> estimators.Predictor:
    return estimators.Predictor(exported)


def test_lists_and_arrays_are_the_same_request(predictor: estimators.Predictor) -> None:
    arrays = {"size": np.array([[0.5]]), "place": np.array([[1, -1]]), "colour": np.array([[b"red", b"blue"]])}
    listed, given = predictor(ONE), predictor(arrays)
    assert {name: (value.dtype.kind, value.shape) for name, value in listed.items()} == {
        "all_class_ids": ("i", (1, 3)), "all_classes": ("O", (1, 3)), "class_ids": ("i", (1, 1)),
        "classes": ("O", (1, 1)), "logits": ("f", (1, 3)), "probabilities": ("f", (1, 3))}
    for name, value in listed.items():
        np.testing.assert_array_equal(value, given[name])
    assert listed["classes"][0, 0] == NAMES[listed["class_ids"][0, 0]].encode()


def test_it_says_what_the_estimator_says(predictor: estimators.Predictor, classifier: Any) -> None:
    given = features(9, seed=2)
    expected = list(classifier.predict(lambda: tf.data.Dataset.from_tensor_slices(given).batch(9)))
    np.testing.assert_allclose(predictor(given)["logits"], [one["logits"] for one in expected], rtol=1e-5)


def test_examples_may_be_plain_or_serialized(predictor: estimators.Predictor) -> None:
    plain = {"size": 0.5, "place": [1, -1], "colour": ["red", "blue"]}
    serialized = serialize({"size": 0.5, "place": [1.0, -1.0], "colour": ["red", "blue"]})
    found = predictor.classify([plain, serialized])
    np.testing.assert_allclose(found["scores"], predictor(ONE)["probabilities"].repeat(2, axis=0), rtol=1e-6)
    assert found["classes"].tolist() == [[name.encode() for name in NAMES]] * 2


def test_a_regressor_regresses(regressor: Any, tmp_path: Path) -> None:
    with estimators.Predictor(estimators.export(regressor, tmp_path / "m", features=columns())) as predictor:
        np.testing.assert_allclose(
            predictor.regress([{"size": 0.5, "place": [1, -1], "colour": ["red", "blue"]}])["outputs"],
            predictor(ONE)["predictions"], rtol=1e-6)
        with pytest.raises(InputError, match=r"no signature with the method tensorflow/serving/classify: it has"):
            predictor.classify([])


@pytest.mark.parametrize(("change", "told"), [
    ({"colours": [["red"]]}, "there is no feature 'colours': signature predict takes colour, place, size; did you "
                             "mean 'colour'?"),
    ({"size": ["big"]}, "feature 'size' is no float32 array: give rows of one length, of values that float32 can hold"),
    ({"place": [[1.0], [2.0, 3.0]]}, "feature 'place' is no float32 array: .*"),
    ({"colour": [[1]]}, "feature 'colour' is no string array: .*"),
    ({"size": 0.5}, r"feature 'size' has shape \[\], the model takes float32 \(-1,1\): the leading axis is the batch"),
    ({"place": [[1.0, 2.0, 3.0]]}, r"feature 'place' has shape \[1, 3\], the model takes float32 \(-1,2\): .*"),
    ({"size": [0.5, 0.5]}, "features have different numbers of rows: colour 1, place 1, size 2"),
])
def test_a_bad_request_is_told_in_a_line(predictor: estimators.Predictor, change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=f"^{told}$".replace("?$", r"\?$")):
        predictor(ONE | change)


def test_a_feature_left_out_is_named(predictor: estimators.Predictor) -> None:
    with pytest.raises(InputError, match=r"^feature 'place' is missing: signature predict takes colour, place, size$"):
        predictor({"size": [0.5], "colour": [["red"]]})


def test_bad_examples_are_told_in_a_line(predictor: estimators.Predictor) -> None:
    with pytest.raises(InputError, match=r"^signature serving_default refuses it: .*(parse|Key)") as refused:
        predictor.classify([b"no example"])
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"^feature 'size' is no float32: "):
        predictor.classify([{"size": "big"}])
    with pytest.raises(InputError, match=r"^feature 'other' is no string: "):
        predictor.classify([{"other": None}])


def test_an_empty_batch_is_answered_with_an_empty_one(predictor: estimators.Predictor) -> None:
    empty = {"size": np.zeros((0, 1)), "place": np.zeros((0, 2)), "colour": np.zeros((0, 1), object)}
    assert predictor(empty)["logits"].shape == (0, 3)
    assert predictor.classify([])["scores"].shape == (0, 3)


def test_a_folder_of_versions_means_its_newest(exported: Path, classifier: Any, tmp_path: Path) -> None:
    for version in (9, 10):
        estimators.export(classifier, tmp_path / "m", features=columns(), version=version)
    assert estimators.Predictor(tmp_path / "m").folder == tmp_path / "m" / "10"
    with pytest.raises(ModelError, match="no model at"):
        estimators.Predictor(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"no signature 'predicts'.*did you mean 'predict'"):
        estimators.Predictor(exported, signature="predicts")


def test_a_damaged_model_is_told_in_a_line(exported: Path, tmp_path: Path) -> None:
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (tmp_path / "variables").mkdir(exist_ok=True)
        (tmp_path / "variables" / name).write_bytes(b"not what was here")
    (tmp_path / "saved_model.pb").write_bytes((exported / "saved_model.pb").read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded: ") as told:
        estimators.Predictor(tmp_path)
    assert "\n" not in str(told.value)


def test_a_closed_predictor_says_so(exported: Path) -> None:
    with estimators.Predictor(exported) as predictor:
        predictor(ONE)
    predictor.close()
    with pytest.raises(InputError, match="is closed"):
        predictor(ONE)


def test_threads_get_their_own_answers(predictor: estimators.Predictor) -> None:
    requests = [{name: value[row:row + 1] for name, value in features(64, seed=3).items()} for row in range(64)]
    alone = [predictor(request)["logits"] for request in requests]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda request: predictor(request)["logits"], requests * 4))
    for number, logits in enumerate(together):
        np.testing.assert_array_equal(logits, alone[number % 64])


@pytest.mark.alone
def test_no_graph_is_built_for_a_request(predictor: estimators.Predictor, classifier: Any) -> None:
    """`make bench` measures the ratio; this only sees that it is not near 1."""
    given = features(1)

    def ask() -> None:
        predictor(given)

    def estimate() -> None:
        list(classifier.predict(lambda: tf.data.Dataset.from_tensor_slices(given).batch(1)))

    def seconds(call: Any, times: int) -> float:
        gc.collect()
        call()
        spent = []
        for _ in range(times):
            started = time.perf_counter()
            call()
            spent.append(time.perf_counter() - started)
        return min(spent)

    assert seconds(estimate, 2) > 10 * seconds(ask, 50)
