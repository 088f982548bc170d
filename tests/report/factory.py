"""Run results made by hand, one line a candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.interleaved import BatchResult, BenchmarkResult
from trt_pipeline.benchmarking.statistics import Latency, Ratio
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.model.contract import Contract, SignatureContract, TensorContract
from trt_pipeline.parity.compare import Figures, OutputVerdict, Worst
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.parity.reference import OutputReference
from trt_pipeline.results import CandidateResult, Publication, StageCost
from trt_pipeline.run_result import RunResult

HOSTILE = "<script>alert('x')</script> & [red]$\\frac$"


def latency(p50: float, batch_size: int) -> Latency:
    return Latency(requests=40, p50=p50, p90=p50 * 1.2, p99=p50 * 1.5, throughput=1e3 * batch_size / p50)


def ratio(value: float) -> Ratio:
    return Ratio(value=value, low=value * 0.96, high=value * 1.04)


def benchmark(speed: float, sizes: tuple[int, ...] = (1, 8),
              signatures: tuple[str, ...] = ("serve",)) -> BenchmarkResult:
    """Timings of a candidate that is ``speed`` times as fast as the original."""
    return BenchmarkResult(
        batches=tuple(BatchResult(
            signature=signature, batch_size=size, original=latency(50.0 * size**0.5, size),
            candidate=latency(50.0 * size**0.5 / speed, size),
            ratios={m: ratio(speed) for m in ("latency_p50", "latency_p90", "latency_p99", "throughput")})
            for signature in signatures for size in sizes),
        load_s=1.25, first_request_s=0.4, original_load_s=2.0, original_first_request_s=0.5, peak_memory_mb=512.0,
        original_peak_memory_mb=640.0)


def figures(group: str, error: float) -> Figures:
    return Figures(group=group, elements=640, max_abs=error * 22, max_scaled=error, cosine=1 - error / 10,
                   snr_db=60.0 if error else 300.0, violations=int(error * 100))


def tokens(group: str, match: float) -> Figures:
    return Figures(group=group, elements=2251, token_match=match, sequence_match=match / 2)


def verdict(error: float, match: float = 1.0, reason: str = "") -> Verdict:
    """One float output that is off by ``error`` and one of tokens of which ``match`` are equal."""
    worst = Worst(case="batch max [0..7]", sample=3, index=(8,), expected="3540", got="4259")
    return Verdict(passed=not reason, reason=reason, outputs=(
        OutputVerdict(signature="serve", output="scores", gate="close: scaled 7.6e-06", passed=not reason,
                      reasons=(reason,) if reason else (), worst=worst,
                      figures=(figures("all", error), figures("batch 1", error / 2), figures("longest", error))),
        OutputVerdict(signature="serve", output="tokens", gate="exact", passed=True, reasons=(), worst=None,
                      figures=(tokens("all", match), tokens("shortest + longest", match)))))


def incomparable(reason: str) -> Verdict:
    """A verdict over an output whose every batch had the wrong shape."""
    return Verdict(passed=False, reason=reason, outputs=(
        OutputVerdict(signature="serve", output="scores", gate="exact", passed=False, reasons=(reason,), figures=(),
                      worst=None),))


def candidate(name: str, status: str = "ok", reason: str = "", **fields: Any) -> CandidateResult:
    backend, _, precision = name.partition("/")
    return CandidateResult.model_validate({
        "name": name, "backend": backend, "precision": precision or "native", "status": status, "reason": reason,
        "stages": (StageCost(stage="convert", seconds=4.2, peak_memory_mb=700.0, cached=status == "ok"),), **fields})


def judged(name: str, speed: float, error: float, reason: str = "", match: float = 1.0) -> CandidateResult:
    """A candidate that was compared and timed; rejected where ``reason`` is given."""
    return candidate(name, "rejected" if reason else "ok", reason, verdict=verdict(error, match, reason),
                     benchmark=benchmark(speed), size_bytes=7_360_000,
                     artifact=Artifact(kind="savedmodel", files={"serve": "model"},
                                       description={"serve": {"nodes": 1204, "int8_share": 0.8125}}))


ORIGINAL = judged("original", 0.99, 0.0)
PUBLISHED = Publication(target="tf-serving 2.14", candidate="tensorflow/fp32", version=3, path="serving/demo/3",
                        new=True, why="latency_p50@1: 1.50x [1.44, 1.56] of the original")
KEPT_ORIGINAL = Publication(target="tf-serving 2.14", candidate="original", version=1, path="serving/demo/1",
                            new=False, why="no candidate that it can load beats the original in latency_p50@1")


def run(candidates: tuple[CandidateResult, ...] = (ORIGINAL,),
        publications: tuple[Publication, ...] = (KEPT_ORIGINAL,), **fields: Any) -> RunResult:
    tensor = TensorContract(dtype="float32", shape=(None, 4))
    signature = SignatureContract(name="serve", method_name="predict", inputs={"x": tensor}, outputs={"scores": tensor})
    noise = {"serve": {
        "scores": OutputReference(dtype="float32", scale=22.4, noise=NoiseFloor(
            repeat=0.0, threads=2.6e-7, without="no float64 run: it uses look-up tables")),
        "tokens": OutputReference(dtype="int32", scale=5662.0)}}
    return RunResult.model_validate({
        "name": "demo", "run_id": "20240501-101500", "folder": "artifacts/demo/20240501-101500",
        "model": "models/demo/1", "model_digest": "9bcb0881" * 8, "samples_digests": {"validation": "164364ed" * 8},
        "config": {"name": "demo", "serving": "serving", "targets": [{"kind": "tf-serving", "version": "2.14"}]},
        "environment": {"python": "3.11.7", "cpu": "Some CPU @ 2.5 GHz", "tensorrt": ""},
        "stages": (StageCost(stage="inspect", seconds=2.0, peak_memory_mb=400.0, cached=False),),
        "contract": Contract(tags=("serve",), signatures={"serve": signature}, assets={}, extra_assets={}, tables=0,
                             variable_bytes=6_784_292, tensorflow_version="2.14.1"),
        "noise": noise, "candidates": candidates, "publications": publications, "objective": "latency_p50@1",
        "seconds": 126.7, **fields})


def mixed() -> RunResult:
    """Every status once or more, names and reasons that would like to be code."""
    return run((
        ORIGINAL,
        judged("tensorflow/fp32", 1.5, 3.4e-7),
        judged("tensorflow/bf16", 1.9, 0.085, "serve.scores: 97 of 640 elements outside close: scaled 0.05"),
        judged(f"onnxruntime/{HOSTILE}", 4.7, 0.3, f"serve.scores: {HOSTILE}"),
        candidate("onnxruntime/fp32", "rejected", "serve.scores: shape [1, 2] instead of [1, 3]",
                  verdict=incomparable("shape [1, 2] instead of [1, 3] (batch 1)"), benchmark=benchmark(9.0)),
        candidate("tf-trt/fp16", "failed", f"convert: worker killed {HOSTILE}", interpreter=Interpreter(
            python=Path("/opt/tf217/bin/python"),
            environment={"python": "3.10.13", "cores": "2", "tensorflow": "2.17.1"})),
        candidate("tf-trt/int8", "unsupported", "TensorRT needs a GPU; none here"),
        candidate("tensorrt/fp16", "pending-gpu", "its engine is built on the target by 'trt-pipeline finalize'"),
    ), (PUBLISHED, Publication(target="triton 25.06", candidate=None, why=f"no candidate passed {HOSTILE}")))
