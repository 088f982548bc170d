"""Estimators of a few steps, trained once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.colours import NAMES, batches, columns, configuration
from trt_pipeline import estimators


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three classes by name."""
    estimator = tf.estimator.DNNClassifier([8], columns(), n_classes=3, label_vocabulary=NAMES,
                                           config=configuration(tmp_path_factory.mktemp("classifier")))
    estimator.train(batches(NAMES * 8), steps=5)
    return estimator


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two classes: the head of these serves a regression too."""
    estimator = tf.estimator.LinearClassifier(columns(), config=configuration(tmp_path_factory.mktemp("binary")))
    estimator.train(batches([0, 1] * 12), steps=3)
    return estimator


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Any:
    estimator = tf.estimator.LinearRegressor(columns(), config=configuration(tmp_path_factory.mktemp("regressor")))
    estimator.train(batches(np.linspace(0, 1, 24, dtype=np.float32)), steps=3)
    return estimator


@pytest.fixture(scope="session")
def exported(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier as `export` writes it."""
    return estimators.export(classifier, tmp_path_factory.mktemp("exported") / "colours", features=columns())
