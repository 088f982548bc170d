"""Calibration and validation inputs for the demo: `python -m models.demo.samples --out calibration_data`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from models.command_line import write_to_out
from models.demo.digits import LABELS, load_split

CALIBRATION_IMAGES = 256
VALIDATION_IMAGES = 200


def serialize(image: np.ndarray) -> bytes:
    """One image float32 (8, 8, 1) as a serialized tf.Example with the feature `image`."""
    pixels = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
    example = tf.train.Example(features=tf.train.Features(feature={"image": pixels}))
    return bytes(example.SerializeToString(deterministic=True))


def write_samples(out: Path) -> None:
    """Writes the four demo files; calibration from training digits, validation from held-out ones."""
    training, held_out = load_split()
    validation = held_out.images[:VALIDATION_IMAGES]
    np.savez_compressed(out / "demo.npz", image=training.images[:CALIBRATION_IMAGES])
    np.savez_compressed(out / "demo_validation.npz", image=validation)
    # A record file and not an array of bytes: NumPy drops trailing NULs, and an Example may end in one.
    with tf.io.TFRecordWriter(str(out / "demo_examples_validation.tfrecord")) as writer:
        for image in validation:
            writer.write(serialize(image))
    names = [*LABELS, "ten", "Zero", "", "null", *reversed(LABELS)]
    np.savez_compressed(out / "demo_names_validation.npz", names=np.array(names, dtype=np.bytes_))


if __name__ == "__main__":
    write_to_out(__doc__, write_samples)
