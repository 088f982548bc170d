"""A machine without a GPU says of each of TensorRT's precisions what it can: a row, judged on ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import trt_pipeline as tp
from benchmarks import models
from tests.conftest import ROOT
from trt_pipeline.config.schema import BenchmarkSettings
from trt_pipeline.run_result import RunResult

pytestmark = pytest.mark.slow
PADDED = {"input_ids": 0, "attention_mask": 0}
ENCODER = """
import sys, tensorflow as tf
from benchmarks import models
tf.keras.utils.set_random_seed(1)
encoder = models.Encoder(words=31000, width=64, heads=4, inner=256, layers=2)
encoder.serve(tf.ones([1, 4], tf.int32), tf.ones([1, 4], tf.int32))
tf.saved_model.save(encoder, sys.argv[1], signatures={"serving_default": encoder.serve})
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A sweep of an encoder as BERT is one, batch and length free."""
    folder = tmp_path_factory.mktemp("encoder")
    subprocess.run([sys.executable, "-c", ENCODER, str(folder / "model")], cwd=ROOT, check=True)
    for number, kind in enumerate(("validation", "calibration")):
        np.savez(folder / f"{kind}.npz", **models.sentences(8, number, longest=24))
    config = tp.Config(
        name="encoder", model=folder / "model", padding=PADDED, max_batch_size=4,
        candidates=("tensorrt/fp32", "tensorrt/tf32", "tensorrt/fp16", "tensorrt/bf16", "tensorrt/int8"),
        samples=tp.SampleSources(validation=str(folder / "validation.npz"),
                                 calibration=str(folder / "calibration.npz")),
        # At random weights; of the numbers of a trained model there is enko.
        gate=tp.Gate(outputs={"last_hidden_state": tp.Close(scaled=0.1)}),
        benchmark=BenchmarkSettings(batch_sizes=(1,), duration_s=0.2))
    return tp.sweep(config, output=folder / "artifacts")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_rows_are_judged_at_every_corner_and_wait_for_a_gpu(precision: str, result: RunResult) -> None:
    row = result.candidate(f"tensorrt/{precision}")
    assert row.status == "pending-gpu", row.reason
    assert "no NVIDIA GPU here" in row.reason
    assert row.verdict
    assert row.verdict.passed, row.reason
    assert row.benchmark is None
    groups = {figures.group for figures in row.verdict.outputs[0].figures}
    assert {"batch 1", "batch odd", "batch max", "shortest", "longest", "shortest + longest"} <= groups


def test_each_precision_has_the_error_that_is_its_own(result: RunResult) -> None:
    errors = [verdict.error for name in ("fp32", "fp16", "tf32", "int8")
              if (verdict := result.candidate(f"tensorrt/{name}").verdict)]
    assert 0 <= errors[0] < 1e-5 < errors[1]
    assert max(errors[1], errors[2]) < 1e-2 < errors[3] < 0.1


def test_bf16_is_not_in_the_tensorrt_that_a_tensorflow_has(result: RunResult) -> None:
    row = result.candidate("tensorrt/bf16")
    assert row.status == "unsupported"
    assert row.reason == "TensorRT 8.5 has no bf16: 9.0 is the first that has"


def test_batch_and_length_stay_free_and_names_the_models(result: RunResult) -> None:
    file = Path(result.folder) / "candidates/tensorrt-fp32/model/serving_default/model.onnx"
    graph = onnx.load(str(file)).graph
    assert [value.name for value in graph.input] == ["attention_mask", "input_ids"], "in the contract's order"
    assert [value.name for value in graph.output] == ["last_hidden_state"]
    for value in (*graph.input, *graph.output):
        assert [bool(dim.dim_param) for dim in value.type.tensor_type.shape.dim][:2] == [True, True], value.name
