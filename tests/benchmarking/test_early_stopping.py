"""A candidate that is surely beaten is timed no further, and says by whom."""

from __future__ import annotations

from pathlib import Path

import pytest

import trt_pipeline as tp
from tests.conftest import quick_demo
from tests.publish.candidates import candidate, judged, ratio
from trt_pipeline.benchmarking.interleaved import Rival
from trt_pipeline.config.schema import Config
from trt_pipeline.stages import dominance

ROW = candidate("tensorflow/bf16", verdict=judged(error=0.01))
CLOSE, FAR = judged(error=0.001), judged(error=0.1)


def config(*targets: str) -> Config:
    kinds = [{"kind": kind, "version": "24.10" if kind == "triton" else "2.14"} for kind in targets]
    return Config.model_validate(quick_demo(Path("serving")).model_dump() | {"targets": kinds})


@pytest.mark.parametrize(("other", "beats"), [
    (candidate("tensorflow/fp32", ratio(2.0), verdict=CLOSE), True),
    (candidate("tensorflow/fp32", ratio(2.0), verdict=FAR), False),
    (candidate("tensorflow/fp32", ratio(2.0), verdict=CLOSE, status="rejected"), False),
    (candidate("tensorflow/fp32", verdict=CLOSE), False),
    (candidate("onnxruntime/fp32", ratio(9.0), kind="onnx", verdict=CLOSE), False),
])
def test_a_rival_passed_is_as_close_and_fits_every_server_that_it_would_keep_the_other_from(
        other: tp.CandidateResult, beats: bool) -> None:
    expected = (Rival(name=other.name, metric="latency_p50", batch_size=1, speed=1.95),) if beats else ()
    assert dominance.rivals(ROW, [other], config("tf-serving", "triton")) == expected


def test_the_fastest_rival_is_asked_and_one_that_triton_alone_is_for_may_be_onnx() -> None:
    others = [candidate("tensorflow/fp32", ratio(2.0), verdict=CLOSE),
              candidate("onnxruntime/fp32", ratio(9.0), kind="onnx", verdict=CLOSE)]
    assert [rival.name for rival in dominance.rivals(ROW, others, config("triton"))] == ["onnxruntime/fp32"]


@pytest.mark.slow
def test_timing_ends_when_the_intervals_part(tmp_path: Path) -> None:
    """The original against itself: beaten by a rival that nothing reaches, and not by one that all reach."""
    from trt_pipeline.benchmarking import interleaved
    from trt_pipeline.benchmarking.runner_process import Side
    from trt_pipeline.model import saved_model
    from trt_pipeline.samples import sources, store

    model = Path("models/demo/1").resolve()
    contract = saved_model.read_contract(model)
    signature = contract.signatures["serving_default"]
    arrays = sources.read("calibration_data/demo_validation.npz", list(signature.inputs))
    store.write(dict(arrays), tmp_path / "samples")
    side = Side(backend="original", artifact={"kind": "savedmodel", "files": {"serving_default": model.name}},
                folder=model.parent, contract=contract, samples={"serving_default": tmp_path / "samples"}, padding={})

    def timed(speed: float) -> interleaved.BenchmarkResult:
        rival = Rival(name="tensorflow/fp32", metric="latency_p50", batch_size=8, speed=speed)
        return interleaved.compare(side, side, {"serving_default": signature}, (1, 8), 2.0, rivals=[rival])

    beaten = timed(50.0)
    assert beaten.stopped.startswith("dominated by tensorflow/fp32, which is no further from the original: ")
    assert [batch.batch_size for batch in beaten.batches] == [8]
    assert beaten.ratio("latency_p50", 1) is None
    unbeaten = timed(0.02)
    assert (unbeaten.stopped, [batch.batch_size for batch in unbeaten.batches]) == ("", [8, 1])
