"""A kept result speaks only of what it was made from: other samples, changed files and changed models find none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ModelError, SamplesError
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages import jobs, worker
from trt_pipeline.stages.run import run

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The larger of two numbers, as 0 or 1: outputs without noise, whose scale hardly tells samples apart."""
    module = tf.Module()
    module.weight = tf.Variable(np.eye(2, dtype=np.float32))
    call = tf.function(lambda x: {"label": tf.argmax(x @ module.weight, 1)},
                       input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serve": call})
    return tmp_path / "model"


def sweep(model: Path, inputs: np.ndarray, **changes: object) -> RunResult:
    folder = model.parent
    np.savez(folder / "samples.npz", x=inputs.astype(np.float32))
    config = Config.model_validate({
        "name": "labels", "model": str(model), "candidates": ["onnxruntime/fp32"],
        "samples": {"validation": str(folder / "samples.npz")}, "serving": str(folder / "serving"),
        "targets": [{"kind": "triton", "version": "24.10"}],
        "benchmark": {"batch_sizes": [1], "duration_s": 0.1}, "max_batch_size": 4} | changes)
    return run(config, output=folder / "artifacts")


def cached(result: RunResult, stage: str) -> bool:
    return next(cost.cached for cost in result.candidate("onnxruntime/fp32").stages if cost.stage == stage)


def test_other_samples_are_judged_anew_although_their_outputs_look_alike(model: Path) -> None:
    easy = np.array([[1, 0], [0, 1]] * 4)
    sweep(model, easy)
    other = sweep(model, easy * 2)
    assert cached(other, "convert")
    assert not cached(other, "validate")


def test_files_that_were_changed_are_made_again_not_published(model: Path) -> None:
    samples = np.array([[1, 0], [0, 1]] * 4)
    first = sweep(model, samples)
    shown = Path(first.folder, "candidates/onnxruntime-fp32/model/serve/model.onnx")
    good = shown.read_bytes()
    with shown.open("r+b") as stream:  # in place: the kept file is the same one
        stream.write(b"\0" * 64)
    second = sweep(model, samples)
    assert not cached(second, "convert")
    assert Path(second.folder, "candidates/onnxruntime-fp32/model/serve/model.onnx").read_bytes() == good


def test_a_model_that_changes_during_the_run_is_not_published(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_worker = worker.run

    def changing(function, *arguments, **options):
        outcome = run_worker(function, *arguments, **options)
        (model / "assets.extra").mkdir(exist_ok=True)
        (model / "assets.extra" / "note").write_text("retrained")
        return outcome

    monkeypatch.setattr(worker, "run", changing)
    with pytest.raises(ModelError, match="was changed while it was being optimized: run again"):
        sweep(model, np.array([[1, 0], [0, 1]]))
    assert not (model.parent / "serving").exists()


def test_calibrating_on_the_validation_samples_is_refused(model: Path) -> None:
    samples = {"validation": str(model.parent / "samples.npz"), "calibration": str(model.parent / "samples.npz")}
    with pytest.raises(SamplesError, match="are the same data"):
        sweep(model, np.array([[1, 0], [0, 1]]), samples=samples)


def test_unsupported_is_remembered(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep(model, np.array([[1, 0], [0, 1]]), candidates=["onnxruntime/int8"])
    row = first.candidate("onnxruntime/int8")
    assert (row.status, row.reason) == ("unsupported", "int8 needs calibration samples: set samples.calibration in the "
                                                       "config, or give a ranges file")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(jobs, "convert", never)
    again = sweep(model, np.array([[1, 0], [0, 1]]), candidates=["onnxruntime/int8"])
    assert again.candidate("onnxruntime/int8").reason == row.reason
