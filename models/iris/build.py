"""Trains and exports the iris model, in seconds:

python -m models.iris.build --out models/iris
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from models.iris.classifier import accuracy, classifier, columns, train
from models.iris.flowers import load_split
from trt_pipeline import estimators


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of versions to write the next one to")
    arguments = parser.parse_args()
    training, held_out = load_split()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        estimator = classifier(training, Path(folder))
        train(estimator, training)
        written = estimators.export(estimator, arguments.out, features=columns(training))
        print(f"{written}; CPU seconds: {time.process_time() - started:.0f}")
        parameters = sum(estimator.get_variable_value(name).size for name in estimator.get_variable_names()
                         if name.startswith("dnn/"))
        print(f"parameters: {parameters:,}")
        print(f"accuracy: {accuracy(estimator, training):.4f} train, {accuracy(estimator, held_out):.4f} held out")


if __name__ == "__main__":
    main()
