"""What the Estimators of these tests are trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

COLOURS = ["red", "green", "blue"]
NAMES = ["no", "maybe", "yes"]


def columns() -> list[Any]:
    """Two numbers, one of them a pair, and colours, any number of them."""
    colour = tf.feature_column.categorical_column_with_vocabulary_list("colour", COLOURS)
    return [tf.feature_column.numeric_column("size"), tf.feature_column.numeric_column("place", shape=(2,)),
            tf.feature_column.indicator_column(colour)]


def features(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"size": random.normal(size=(count, 1)).astype(np.float32),
            "place": random.normal(size=(count, 2)).astype(np.float32),
            "colour": random.choice(np.array(COLOURS, dtype=object), (count, 1))}


def batches(labels: Any) -> Callable[[], tf.data.Dataset]:
    return lambda: tf.data.Dataset.from_tensor_slices((features(len(labels)), labels)).repeat().batch(8)


def configuration(folder: Path) -> tf.estimator.RunConfig:
    return tf.estimator.RunConfig(model_dir=str(folder), tf_random_seed=1)
