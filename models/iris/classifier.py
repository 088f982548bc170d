"""The classifier, a premade DNNClassifier, and training it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from models.iris.flowers import FEATURES, SPECIES, Flowers

HIDDEN = (16, 8)
STEPS = 600
BATCH_SIZE = 32


def columns(training: Flowers) -> list[Any]:
    """A numeric column for each feature, brought to mean 0 and deviation 1 of ``training``."""
    means, deviations = training.lengths.mean(0), training.lengths.std(0)

    def scaled(place: int) -> Any:
        return lambda lengths: (lengths - means[place]) / deviations[place]

    return [tf.feature_column.numeric_column(name, normalizer_fn=scaled(place))
            for place, name in enumerate(FEATURES)]


def classifier(training: Flowers, folder: Path) -> Any:
    """The Estimator, not trained yet; its checkpoints go to ``folder``."""
    one_thread = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    return tf.estimator.DNNClassifier(
        HIDDEN, columns(training), n_classes=len(SPECIES), label_vocabulary=list(SPECIES),
        optimizer=lambda: tf.keras.optimizers.legacy.Adam(0.01),
        # One order of summing, so that it repeats.
        config=tf.estimator.RunConfig(model_dir=str(folder), tf_random_seed=0, session_config=one_thread,
                                      save_summary_steps=STEPS))


def train(estimator: Any, training: Flowers, steps: int = STEPS) -> None:
    """Feed ``training``, shuffled again for each epoch."""
    def batches() -> tf.data.Dataset:
        flowers = tf.data.Dataset.from_tensor_slices((training.features(), training.names()))
        return flowers.shuffle(len(training.species), seed=0).repeat().batch(BATCH_SIZE)

    estimator.train(batches, steps=steps)


def accuracy(estimator: Any, flowers: Flowers) -> float:
    """The share of flowers that it names rightly."""
    found = estimator.evaluate(
        lambda: tf.data.Dataset.from_tensor_slices((flowers.features(), flowers.names())).batch(len(flowers.species)))
    return float(found["accuracy"])
