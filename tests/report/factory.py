"""Run results made by hand, one line a candidate."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

from trt_pipeline.backends.base import Artifact
from trt_pipeline.benchmarking.interleaved import BatchResult, BenchmarkResult
from trt_pipeline.benchmarking.statistics import Latency, Ratio
from trt_pipeline.calibration.facts import CalibrationFacts, TensorHistogram
from trt_pipeline.ci.outcome import GateReport, Outcome, Regression
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands.islands import Islands, SignatureIslands
from trt_pipeline.islands.search import Point
from trt_pipeline.model.contract import Contract, SignatureContract, TensorContract
from trt_pipeline.model.coverage import Coverage, LeftOut
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.parity.compare import Figures, OutputVerdict, Worst
from trt_pipeline.parity.excerpt import Excerpt, WorstSample
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.parity.reference import OutputReference
from trt_pipeline.results import CandidateResult, Publication, StageCost, Trade
from trt_pipeline.run_result import RunResult

HOSTILE = "<script>alert('x')</script> & [red]$\\frac$"


def latency(p50: float, batch_size: int) -> Latency:
    shares = [min(max(place / 40, 0.003), 0.997) for place in range(41)]
    quantiles = tuple(p50 * math.exp(0.14 * NormalDist().inv_cdf(share)) for share in shares)
    return Latency(requests=40, p50=p50, p90=p50 * 1.2, p99=p50 * 1.5, throughput=1e3 * batch_size / p50,
                   quantiles=quantiles)


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


def decoded(text: str, ids: tuple[int, ...]) -> Excerpt:
    return Excerpt(dtype="int32", shape=(len(ids),), values=ids, text=text)


TRANSLATED = WorstSample(
    sample=17, case="batch max [0..31]", excess=3.2,
    inputs={"input": decoded("the old bridge was closed to traffic yesterday", (4, 81, 992, 17, 1240, 9, 2210, 771))},
    expected=decoded("le vieux pont a été fermé hier à la circulation", (11, 902, 413, 7, 88, 1502, 640, 12, 9, 3311)),
    got=decoded("le vieux pont était fermé à la circulation", (11, 902, 413, 1790, 1502, 12, 9, 3311)))
SCORED = WorstSample(
    sample=3, case="batch 1", excess=1.7,
    inputs={"input": Excerpt(dtype="int64", shape=(3,), values=(4, 81, 992))},
    expected=Excerpt(dtype="float32", shape=(2, 3), values=(0.1, -7.25, 3.5, 0.0, 1.0, 2.0)),
    got=Excerpt(dtype="float32", shape=(2, 3), values=(0.1, -7.5, 3.4, "nan", 1.0, 2.0)))
LABELLED = WorstSample(
    sample=None, case="longest", excess=None,
    expected=Excerpt(dtype="string", shape=(2,), values=("setosa", "virginica")),
    got=Excerpt(dtype="string", shape=(2,), values=("setosa", HOSTILE)))


def bell(tensor: str, width: float, covered: float) -> TensorHistogram:
    """48 bins from -4 to 6 times ``width`` of what is spread normally, of which int8 covers ``covered`` each way."""
    spread = NormalDist(0, width)
    edges = [width * (-4 + 10 * place / 48) for place in range(49)]
    counts = tuple(round(1e6 * (spread.cdf(b) - spread.cdf(a))) for a, b in itertools.pairwise(edges))
    return TensorHistogram(signature="serve", tensor=tensor, low=edges[0], high=edges[-1], range=(-covered, covered),
                           clipped=2 * spread.cdf(-covered), counts=counts)


CALIBRATION = CalibrationFacts(method="entropy", samples=512, tensors={"serve": 204}, histograms=(
    bell("encoder/layer_0/attention/softmax/MatMul", 1.5, 3.0),
    bell("decoder/while/body/dense/BiasAdd:0", 220.0, 900.0),
    TensorHistogram(signature="serve", tensor="constant/Relu", low=0.0, high=0.0, range=(0.0, 0.0), clipped=0.0,
                    counts=(640, *[0] * 47))))


GATE = GateReport(passed=False, reason="tensorflow/fp32 for tf-serving 2.14: speedup >= 2: speedup is 1.5", outcomes=(
    Outcome(requirement="speedup >= 2", candidate="tensorflow/fp32", targets=("tf-serving 2.14",), standing="missed",
            detail="speedup is 1.5"),
    Outcome(requirement="parity <= 0.01", candidate="", targets=("triton 25.06",), standing="pending",
            detail="no candidate could be chosen")), compared=3, notes=("tf-trt/fp16: failed",), regressions=(
    Regression(candidate="tensorflow/fp32", what="parity", before="3.4e-08", now="3.4e-07"),))


def whole() -> RunResult:
    """A run with every section of the report in it, and all of `mixed` besides."""
    wrong = "serve.tokens: 41 of 2251 tokens differ, match: tokens >= 0.99"
    int8 = judged("tf-trt/int8:percentile", 3.1, 0.021, wrong, match=0.982)
    assert int8.verdict
    assert int8.benchmark
    assert int8.artifact
    samples = {"tokens": (TRANSLATED,), "scores": (SCORED, LABELLED)}
    outputs = tuple(o.model_copy(update={"samples": samples[o.output]}) for o in int8.verdict.outputs)
    lowered = LowPrecision(precision="int8", nodes=("encoder/dense/MatMul", "encoder/dense_1/MatMul", "decoder/MatMul"),
                           kept={"decoder/logits/MatMul": "an island"}, others={"softmax/Softmax": "no int8 kernel"})
    covered = Coverage(engines=1, nodes_in_largest=318, operations=420, operations_in_engines=318, flops=4.1e9,
                       flops_in_engines=4.0e9, left_out=(LeftOut(op="While", count=1, why="no converter for it"),))
    raised = Islands(candidate=int8.name, precision="int8", model_digest="9bcb0881" * 8, signatures={
        "serve": SignatureIslands(nodes=("decoder/logits/MatMul",), of=4, passed=True, before=7.1, after=0.8,
                                  curve=(Point(raised=0, distance=7.1, passed=False),
                                         Point(raised=1, distance=0.8, passed=True)))})
    int8 = int8.model_copy(update={
        "verdict": int8.verdict.model_copy(update={"outputs": outputs}), "metrics": {"bleu": 27.31, "chrf": 0.512},
        "benchmark": int8.benchmark.model_copy(update={"gpu_memory_mb": 310.0, "original_gpu_memory_mb": 702.0}),
        "artifact": int8.artifact.model_copy(update={
            "coverage": {"serve": covered}, "low_precision": {"serve": lowered}}),
        "islands": Trade(islands=raised, before=verdict(0.3, 0.7, "far off"), benchmark_before=benchmark(3.4))})
    stopped = judged("onnxruntime/fp16", 0.7, 4e-4)
    assert stopped.benchmark
    why = "dominated by tensorflow/fp32, which is no further from the original"
    batches = stopped.benchmark.batches[:1]
    stopped = stopped.model_copy(update={
        "benchmark": stopped.benchmark.model_copy(update={"stopped": why, "batches": batches})})
    known = mixed()
    first = known.candidates[0].model_copy(update={"metrics": {"bleu": 27.9}})
    return known.model_copy(update={"candidates": (first, *known.candidates[1:], int8, stopped),
                                    "calibration": CALIBRATION, "gate": GATE})
