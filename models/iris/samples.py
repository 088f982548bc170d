"""Calibration and validation inputs for iris: `python -m models.iris.samples --out calibration_data`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from models.command_line import write_to_out
from models.iris.flowers import Flowers, load_split
from trt_pipeline.estimators.examples import serialize


def rows(flowers: Flowers) -> dict[str, np.ndarray]:
    """What the signature `predict` takes: feature -> float32 (N, 1)."""
    return {name: lengths[:, np.newaxis] for name, lengths in flowers.features().items()}


def examples(flowers: Flowers) -> list[bytes]:
    """What `serving_default` takes: each flower as a serialized tf.Example."""
    features = flowers.features()
    return [serialize({name: lengths[place] for name, lengths in features.items()})
            for place in range(len(flowers.species))]


def write_samples(out: Path) -> None:
    """Writes the four iris files; calibration from training flowers, validation from held-out ones."""
    for role, flowers in zip(("", "_validation"), load_split(), strict=True):
        np.savez_compressed(out / f"iris{role}.npz", **rows(flowers))
        with tf.io.TFRecordWriter(str(out / f"iris_examples{role}.tfrecord")) as writer:
            for example in examples(flowers):
                writer.write(example)


if __name__ == "__main__":
    write_to_out(__doc__, write_samples)
