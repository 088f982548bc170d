"""Calibrate a model on arrays, as the tests of every backend's int8 need it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trt_pipeline import digest
from trt_pipeline.calibration import ranges
from trt_pipeline.calibration.calibrate import calibrate
from trt_pipeline.model import saved_model
from trt_pipeline.samples import store


def calibrated(model: Path, samples: Mapping[str, Mapping[str, npt.NDArray[Any]]], file: Path, method: Any = "minmax",
               padding: dict[str, int] | None = None) -> Path:
    """Write the ranges file ``file`` of ``model``, from arrays by signature and input."""
    stores = {}
    for number, (name, arrays) in enumerate(samples.items()):
        folder = file.with_name(f"{file.name}-samples-{number}")
        store.write(dict(arrays), folder)
        stores[name] = store.Samples(folder, padding)
    contract = saved_model.read_contract(model)
    ranges.write(file, calibrate(model, contract, stores, tuple(samples), method=method,
                                 model_digest=digest.of_folder(model), samples_digest=""))
    return file
