"""A model with every kind of signature, for servers and their clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

THIRD = np.float32(1 / 3)


def save_toy(folder: Path, *, capitals: bool = True) -> None:
    """Sums and thirds of pairs of numbers, texts in ``capitals``, and the thirds of pairs in tf.Examples."""
    import tensorflow as tf

    change = tf.strings.upper if capitals else tf.strings.lower

    class Toy(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "pairs")])
        def sums(self, pairs: Any) -> Any:
            return {"total": tf.reduce_sum(pairs, axis=1), "third": pairs * THIRD}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text"),
                                      tf.TensorSpec([None], tf.int64, "number")])
        def words(self, text: Any, number: Any) -> Any:
            return {"shout": change(text, encoding="utf-8"), "next": number + 1}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def length(self, text: Any) -> Any:
            return {"length": tf.strings.length(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def classify(self, inputs: Any) -> Any:
            pairs = self.parsed(inputs)
            return {"classes": tf.tile(tf.constant([["first", "second"]]), [tf.shape(pairs)[0], 1]),
                    "scores": pairs * THIRD}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def regress(self, inputs: Any) -> Any:
            return {"outputs": tf.reduce_sum(self.parsed(inputs), axis=1) * THIRD}

        def parsed(self, inputs: Any) -> Any:
            return tf.io.parse_example(inputs, {"pair": tf.io.FixedLenFeature([2], tf.float32)})["pair"]

    toy = Toy()
    tf.saved_model.save(toy, str(folder), signatures={
        "serving_default": toy.sums, "words": toy.words, "length": toy.length, "classify": toy.classify,
        "regress": toy.regress})
