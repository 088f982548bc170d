"""Trains and exports the demo model, in seconds:

python -m models.demo.build --out models/demo/1
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.demo.classifier import Classifier, accuracy, train
from models.demo.digits import load_split
from models.demo.export import export


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the SavedModel directory to write")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)  # one order of summing, so it repeats
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.random.set_seed(0)
    training, held_out = load_split()
    model = Classifier()
    started = time.process_time()
    train(model, training)
    export(model, arguments.out)
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    print(f"parameters: {parameters:,}; CPU seconds: {time.process_time() - started:.0f}")
    print(f"accuracy: {accuracy(model, training):.4f} train, {accuracy(model, held_out):.4f} held out")


if __name__ == "__main__":
    main()
