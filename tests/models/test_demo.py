"""The committed demo model keeps its contract and tells digits apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from models.demo.digits import LABELS, load_split
from models.demo.samples import VALIDATION_IMAGES, serialize, write_samples

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "models" / "demo" / "1"
SAMPLES = ROOT / "calibration_data"


@pytest.fixture(scope="module")
def loaded() -> Any:
    return tf.saved_model.load(str(DEMO))


@pytest.fixture(scope="module")
def signatures(loaded: Any) -> Any:
    return loaded.signatures


def described(specs: Any) -> dict[str, tuple[tf.DType, list[int | None]]]:
    return {name: (spec.dtype, spec.shape.as_list()) for name, spec in specs.items()}


def test_the_signatures_are_the_three_promised(signatures: Any) -> None:
    inputs = {name: described(call.structured_input_signature[1]) for name, call in signatures.items()}
    assert inputs == {
        "serving_default": {"image": (tf.float32, [None, 8, 8, 1])},
        "classify": {"inputs": (tf.string, [None])},
        "lookup": {"names": (tf.string, [None])},
    }
    outputs = {name: described(call.structured_outputs) for name, call in signatures.items()}
    assert outputs == {
        "serving_default": {"logits": (tf.float32, [None, 10]), "probabilities": (tf.float32, [None, 10])},
        "classify": {"classes": (tf.string, [None, 10]), "scores": (tf.float32, [None, 10])},
        "lookup": {"ids": (tf.int64, [None])},
    }


def test_classify_carries_the_method_name_that_tensorflow_serving_asks_for() -> None:
    proto = saved_model_pb2.SavedModel.FromString((DEMO / "saved_model.pb").read_bytes())
    methods = {
        name: definition.method_name for name, definition in proto.meta_graphs[0].signature_def.items()
    }
    assert methods["classify"] == "tensorflow/serving/classify"
    assert methods["serving_default"] == methods["lookup"] == "tensorflow/serving/predict"


def test_a_tensorflow_1_session_as_in_tensorflow_serving_initializes_the_tables() -> None:
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(DEMO))
        lookup = meta_graph.signature_def["lookup"]
        ids = session.run(lookup.outputs["ids"].name, {lookup.inputs["names"].name: [b"seven", b"ten"]})
    assert ids.tolist() == [7, -1]


def test_it_recognizes_held_out_digits(signatures: Any) -> None:
    _, held_out = load_split()
    result = signatures["serving_default"](image=tf.constant(held_out.images))
    assert np.mean(np.argmax(result["logits"], 1) == held_out.labels) > 0.95
    np.testing.assert_allclose(np.sum(result["probabilities"], 1), 1.0, rtol=1e-5)


def test_classify_says_the_same_as_serving_default(signatures: Any) -> None:
    _, held_out = load_split()
    images = held_out.images[:20]
    classified = signatures["classify"](inputs=tf.constant([serialize(image) for image in images]))
    predicted = signatures["serving_default"](image=tf.constant(images))
    np.testing.assert_allclose(classified["scores"], predicted["probabilities"], rtol=1e-6, atol=1e-7)
    assert [name.decode() for name in classified["classes"].numpy()[7]] == list(LABELS)


def test_lookup_knows_the_labels_and_no_other_name(signatures: Any) -> None:
    names = tf.constant([*LABELS, "ten", "Zero", ""])
    assert signatures["lookup"](names=names)["ids"].numpy().tolist() == [*range(10), -1, -1, -1]


def test_calibration_and_validation_images_are_disjoint() -> None:
    calibration = np.load(SAMPLES / "demo.npz")["image"]
    validation = np.load(SAMPLES / "demo_validation.npz")["image"]
    assert calibration.shape == (256, 8, 8, 1) and calibration.dtype == np.float32
    assert validation.shape == (VALIDATION_IMAGES, 8, 8, 1) and validation.dtype == np.float32
    assert not {image.tobytes() for image in calibration} & {image.tobytes() for image in validation}


def test_the_example_records_hold_the_validation_images() -> None:
    records = tf.data.TFRecordDataset(str(SAMPLES / "demo_examples_validation.tfrecord"))
    parsed = tf.io.parse_example(
        [record.numpy() for record in records], {"image": tf.io.FixedLenFeature([64], tf.float32)}
    )
    validation = np.load(SAMPLES / "demo_validation.npz")["image"]
    np.testing.assert_array_equal(parsed["image"].numpy().reshape(validation.shape), validation)


def test_the_committed_samples_are_what_the_recipe_writes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    written = sorted(tmp_path.iterdir())
    assert len(written) == 4
    for file in written:
        assert file.read_bytes() == (SAMPLES / file.name).read_bytes(), file.name
