"""Requests that servers warm up with: real ones, in every corner, and ones that the model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.publish.folders import contract, publish
from tests.publish.signatures import signature, tensor
from trt_pipeline.config import loader
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import WARM_UP, Contract, SignatureContract, differences
from trt_pipeline.publish import versions, warm_up
from trt_pipeline.publish.publish import NoWarmUp
from trt_pipeline.publish.warm_up import Feeds
from trt_pipeline.samples import check, sources, store
from trt_pipeline.samples.profiles import Extent
from trt_pipeline.samples.store import Samples

SENTENCE = signature({"input": tensor("int64", None, None)}, {"outputs": tensor("int64", None, None)}, "translate")
IMAGE = signature({"x": tensor("float32", None, 2)}, {"y": tensor("float32", None, 1)})


def samples(folder: Path, padding: dict[str, int] | None = None, **columns: Any) -> Samples:
    store.write({name: np.asarray(column) for name, column in columns.items()}, folder)
    return Samples(folder, padding)


def shapes(found: list[Feeds]) -> list[tuple[int, ...]]:
    return [next(iter(feeds.values())).shape for feeds in found]


def test_every_size_comes_with_the_shortest_and_the_longest_sentence(tmp_path: Path) -> None:
    opened = samples(tmp_path, {"input": 0}, input=np.array([[5, 6, 1, 0], [7, 1, 0, 0], [8, 9, 4, 1]]))
    found = warm_up.requests(SENTENCE, opened, [1, 8, 32])
    assert shapes(found) == [(1, 2), (1, 4), (8, 2), (8, 4), (32, 2), (32, 4)]
    np.testing.assert_array_equal(found[2]["input"], [[7, 1]] * 8)
    np.testing.assert_array_equal(found[1]["input"], [[8, 9, 4, 1]])


def test_without_lengths_the_samples_are_taken_in_turn(tmp_path: Path) -> None:
    opened = samples(tmp_path, x=np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    found = warm_up.requests(IMAGE, opened, [1, 4])
    np.testing.assert_array_equal(found[1]["x"], [[1, 2], [3, 4], [5, 6], [1, 2]])


def test_profiles_add_their_corners_and_no_shape_comes_twice(tmp_path: Path) -> None:
    opened = samples(tmp_path, {"input": 0}, input=np.array([[5, 6, 1], [7, 8, 1]]))
    profile = {"input": Extent(min=(1, 3), opt=(2, 4), max=(4, 6))}
    assert shapes(warm_up.requests(SENTENCE, opened, [1, 2], [profile])) == [(1, 3), (2, 3), (2, 4), (4, 6)]


@pytest.mark.parametrize("shape", [(3, 2), (2,)])
def test_a_batch_that_is_fixed_stays_so(tmp_path: Path, shape: tuple[int, ...]) -> None:
    fixed = signature({"x": tensor("float32", *shape)}, {"y": tensor("float32", 1)})
    opened = samples(tmp_path, x=np.ones((2, *shape[1:]), np.float32))
    assert shapes(warm_up.requests(fixed, opened, [1, 8])) == [shape]


# --- The records of TensorFlow Serving ---


@pytest.fixture(scope="module")
def demo() -> Contract:
    return saved_model.read_contract(ROOT / "models/demo/1")


@pytest.fixture(scope="module")
def written(demo: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's records, made of its own samples."""
    config = loader.load(ROOT / "configs/demo.yaml")
    requests = {}
    for name, known in demo.signatures.items():
        source = config.samples.of("validation", name)
        assert source
        columns = check.check(sources.read(source, list(known.inputs)), known, source)
        opened = samples(tmp_path_factory.mktemp("samples"), **columns)
        requests[name] = warm_up.requests(known, opened, [1, 4])
    file = tmp_path_factory.mktemp("records") / "assets.extra" / WARM_UP
    assert warm_up.write(file, "demo", requests, demo.signatures) == 6
    return file


def read(file: Path) -> list[Any]:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    return [prediction_log_pb2.PredictionLog.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(str(file))]


def test_every_signature_is_asked_by_its_method(written: Path) -> None:
    asked = set()
    for log in read(written):
        request = getattr(log, log.WhichOneof("log_type")).request
        assert request.model_spec.name == "demo"
        asked.add((request.model_spec.signature_name, log.WhichOneof("log_type")))
    assert asked == {("serving_default", "predict_log"), ("classify", "classify_log"), ("lookup", "predict_log")}


def test_the_model_answers_each_record(written: Path, demo: Contract) -> None:
    """A record that fails keeps TensorFlow Serving from loading the version."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(ROOT / "models/demo/1"))
    sizes = []
    for log in read(written):
        request = getattr(log, log.WhichOneof("log_type")).request
        if log.WhichOneof("log_type") == "predict_log":
            feeds = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        else:
            feeds = {"inputs": tf.constant([e.SerializeToString() for e in request.input.example_list.examples])}
        known = demo.signatures[request.model_spec.signature_name]
        assert {key: value.dtype.name for key, value in feeds.items()} == {k: t.dtype for k, t in known.inputs.items()}
        answers = loaded.signatures[known.name](**feeds)
        sizes.append(int(next(iter(answers.values())).shape[0]))
        assert any(np.any(value.numpy()) for value in feeds.values() if value.dtype != tf.string) or known.name != (
            "serving_default")
    assert sorted(sizes) == [1, 1, 1, 4, 4, 4]


@pytest.mark.parametrize("changed", [{"method_name": "tensorflow/serving/predict"},
                                     {"outputs": {"scores": tensor("float64", None, 3)}},
                                     {"inputs": {"examples": tensor("string", None)}}])
def test_what_only_looks_like_classify_is_asked_to_predict(tmp_path: Path, changed: dict[str, Any]) -> None:
    plain = SignatureContract(name="c", method_name="tensorflow/serving/classify",
                              inputs={"inputs": tensor("string", None)}, outputs={"scores": tensor("float32", None, 3)})
    for known, expected in ((plain, "classify_log"), (plain.model_copy(update=changed), "predict_log")):
        name = next(iter(known.inputs))
        warm_up.write(tmp_path / "records", "m", {"c": [{name: np.array([b""], object)}]}, {"c": known})
        log, = read(tmp_path / "records")
        assert log.WhichOneof("log_type") == expected


def test_the_file_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [{"x": np.ones((size, 2), np.float32)} for size in range(1, 41)]
    monkeypatch.setattr(warm_up, "MOST_RECORDS", 30)
    assert warm_up.write(tmp_path / "records", "m", {IMAGE.name: requests}, {IMAGE.name: IMAGE}) == 30
    monkeypatch.setattr(warm_up, "_MOST_BYTES", 600)
    assert 1 < warm_up.write(tmp_path / "records", "m", {IMAGE.name: requests}, {IMAGE.name: IMAGE}) < 10
    assert (tmp_path / "records").stat().st_size < 1000


# --- Where they go ---


def test_a_new_version_gets_them_and_its_manifest_says_so(tmp_path: Path) -> None:
    asked = []

    def write(artifact: Any, sizes: tuple[int, ...]) -> Path:
        asked.append(sizes)
        (tmp_path / "records").write_text("records")
        return tmp_path / "records"

    publish(tmp_path, "a", max_batch_size=4, write_warm_up=write)
    publish(tmp_path, "a", max_batch_size=4, write_warm_up=write)
    assert asked == [(1, 2, 4)]
    assert (tmp_path / "serving/demo/1/assets.extra" / WARM_UP).read_text() == "records"
    assert (versions.manifest(tmp_path / "serving/demo", 1) or {})["added"] == [
        "batching_params.pbtxt", f"assets.extra/{WARM_UP}"]


def test_a_version_that_stays_gets_others_with_other_batches(tmp_path: Path) -> None:
    """A server refuses to load one whose own requests are larger than the batches that it takes."""
    def write(artifact: Any, sizes: tuple[int, ...]) -> Path:
        (tmp_path / "records").write_text(str(sizes))
        return tmp_path / "records"

    def fail(artifact: Any, sizes: tuple[int, ...]) -> Path:
        raise NoWarmUp("it ran out of memory")

    records = tmp_path / "serving/demo/1/assets.extra" / WARM_UP
    publish(tmp_path, max_batch_size=4, write_warm_up=write)
    publish(tmp_path, max_batch_size=2, write_warm_up=write)
    assert records.read_text() == "(1, 2)"
    made, = publish(tmp_path, max_batch_size=1, write_warm_up=fail)
    assert (made.version, made.why.endswith("no warm-up records: it ran out of memory")) == (1, True)
    assert not records.exists()
    assert (versions.manifest(tmp_path / "serving/demo", 1) or {})["added"] == ["batching_params.pbtxt"]


def test_those_that_the_model_brings_stay_as_they_are(tmp_path: Path) -> None:
    own = tmp_path / "work/demo/model/assets.extra" / WARM_UP
    own.parent.mkdir(parents=True)
    own.write_text("its own")
    publish(tmp_path, write_warm_up=lambda artifact, sizes: pytest.fail("they were written anew"))
    assert (tmp_path / "serving/demo/1/assets.extra" / WARM_UP).read_text() == "its own"


def test_where_they_cannot_be_made_the_version_is_published_without(tmp_path: Path) -> None:
    def fail(artifact: Any, sizes: tuple[int, ...]) -> Path:
        raise NoWarmUp("it ran out of memory")

    made, = publish(tmp_path, write_warm_up=fail)
    assert made.why.endswith("no warm-up records: it ran out of memory")
    assert not (tmp_path / "serving/demo/1/assets.extra").exists()


def test_they_are_no_part_of_the_contract_unless_the_original_has_some() -> None:
    plain = contract(IMAGE)
    one, other = (plain.model_copy(update={"extra_assets": {WARM_UP: digest}}) for digest in ("1", "2"))
    assert differences(plain, one) == []
    assert differences(one, one) == []
    assert differences(one, other) == [f"assets.extra: {{'{WARM_UP}': '1'}} became {{'{WARM_UP}': '2'}}"]
    assert differences(one, plain) == [f"assets.extra: {{'{WARM_UP}': '1'}} became {{}}"]
