"""What int8 calibration is fed, whichever backend asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trt_pipeline.backends.base import ConversionRequest
from trt_pipeline.backends.calibration import CalibrationBatches
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.samples import store


def _batches(folder: Path, count: int, batch: int | None = None, **defaults: str) -> CalibrationBatches:
    store.write({"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)}, folder)
    inputs = {"x": TensorContract(dtype="float32", shape=(batch, 2))}
    inputs |= {name: TensorContract(dtype="float32", shape=(), default=text) for name, text in defaults.items()}
    request = ConversionRequest(model=folder, tags=("serve",), signatures=("s",), precision="int8",
                                samples={"s": folder})
    return CalibrationBatches(request, SignatureContract(name="s", method_name="", inputs=inputs, outputs={}))


def test_samples_come_one_at_a_time_and_again_on_every_pass(tmp_path: Path) -> None:
    batches = _batches(tmp_path, 3)
    for _ in range(2):
        assert [feeds["x"].tolist() for feeds in batches] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert len(batches) == 3


def test_a_fixed_batch_is_filled_from_the_first_sample_on(tmp_path: Path) -> None:
    assert [feeds["x"].tolist() for feeds in _batches(tmp_path, 3, batch=2)] == [[[0, 1], [2, 3]], [[4, 5], [0, 1]]]


def test_no_more_samples_than_settle_a_range(tmp_path: Path) -> None:
    batches = _batches(tmp_path, 500)
    assert len(batches) == len(list(batches)) == 128


def test_an_input_that_the_samples_leave_out_has_its_default(tmp_path: Path) -> None:
    """ONNX Runtime asks for every input, and so does a function made from a graph."""
    assert [feeds["gain"].tolist() for feeds in _batches(tmp_path, 2, gain="2.5")] == [2.5, 2.5]
