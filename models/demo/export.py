"""Writes the classifier as a SavedModel with three signatures and a vocabulary file.

- `serving_default`: image -> logits, probabilities. Plain tensors; everything can be optimized.
- `classify`: serialized tf.Example -> classes, scores, for TensorFlow Serving's Classify call.
- `lookup`: digit names -> ids. Only strings and a table; nothing in it runs on an accelerator.
"""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from models.demo.classifier import Classifier
from models.demo.digits import LABELS, LABELS_FILE, SIDE

IMAGE = tf.TensorSpec([None, SIDE, SIDE, 1], tf.float32, name="image")
INPUTS = tf.TensorSpec([None], tf.string, name="inputs")
NAMES = tf.TensorSpec([None], tf.string, name="names")
FEATURES = {"image": tf.io.FixedLenFeature([SIDE * SIDE], tf.float32)}
UNKNOWN_ID = -1
CLASSIFY_METHOD = "tensorflow/serving/classify"


class Demo(tf.Module):
    """What is saved: the classifier, and tables from label to id and back."""

    def __init__(self, classifier: Classifier, labels_file: str) -> None:
        super().__init__()
        self.classifier = classifier
        line, text = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        self.ids = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(labels_file, tf.string, text, tf.int64, line), UNKNOWN_ID
        )
        self.labels = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(labels_file, tf.int64, line, tf.string, text), "unknown"
        )

    @tf.function(input_signature=[IMAGE])
    def predict(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Image float32 (N, 8, 8, 1) -> logits, probabilities float32 (N, 10)"""
        logits = self.classifier(image)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    @tf.function(input_signature=[INPUTS])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Example (N,) -> classes string (N, 10), scores float32 (N, 10)"""
        pixels = tf.io.parse_example(inputs, FEATURES)["image"]
        logits = self.classifier(tf.reshape(pixels, [-1, SIDE, SIDE, 1]))
        names = self.labels.lookup(tf.range(len(LABELS), dtype=tf.int64))
        classes = tf.tile(names[tf.newaxis, :], [tf.shape(logits)[0], 1])
        return {"classes": classes, "scores": tf.nn.softmax(logits)}

    @tf.function(input_signature=[NAMES])
    def lookup(self, names: tf.Tensor) -> dict[str, tf.Tensor]:
        """Digit names (N,) -> ids int64 (N,), UNKNOWN_ID for any other name"""
        return {"ids": self.ids.lookup(names)}


def export(classifier: Classifier, out: Path) -> None:
    """Saves the three signatures under `out`."""
    # A table's name in the graph contains the path of its file; a relative one is the same everywhere.
    demo = Demo(classifier, os.path.relpath(LABELS_FILE))
    tf.saved_model.save(
        demo,
        str(out),
        signatures={"serving_default": demo.predict, "classify": demo.classify, "lookup": demo.lookup},
        options=tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False),
    )
    set_method_name(out, "classify", CLASSIFY_METHOD)


def set_method_name(saved_model: Path, signature: str, method: str) -> None:
    """Renames a signature's method: TensorFlow 2 writes `predict` for all, and cannot be asked."""
    file = saved_model / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    proto.meta_graphs[0].signature_def[signature].method_name = method
    file.write_bytes(proto.SerializeToString(deterministic=True))
    # An optional file of hashes of saved_model.pb, which no longer tells the truth.
    (saved_model / "fingerprint.pb").unlink(missing_ok=True)
