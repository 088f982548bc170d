"""Candidates made by hand: a name, an artifact and how fast it is."""

from __future__ import annotations

from trt_pipeline.backends.base import Artifact, ArtifactKind
from trt_pipeline.benchmarking.interleaved import BatchResult, BenchmarkResult
from trt_pipeline.benchmarking.statistics import Latency, Ratio
from trt_pipeline.parity.compare import Figures, OutputVerdict
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.results import CandidateResult, Status

METRICS = ("latency_p50", "latency_p90", "latency_p99", "throughput")
LATENCY = Latency(requests=10, p50=1, p90=1, p99=1, throughput=1)


def timed(*ratios: Ratio, sizes: tuple[int, ...] = (1,)) -> BenchmarkResult:
    """One signature a ratio."""
    batches = tuple(BatchResult(signature=f"s{number}", batch_size=size, original=LATENCY, candidate=LATENCY,
                                ratios=dict.fromkeys(METRICS, ratio))
                    for number, ratio in enumerate(ratios) for size in sizes)
    return BenchmarkResult(batches=batches, load_s=0, first_request_s=0, original_load_s=0, original_first_request_s=0,
                           peak_memory_mb=0, original_peak_memory_mb=0)


def ratio(value: float, spread: float = 0.05) -> Ratio:
    return Ratio(value=value, low=value - spread, high=value + spread)


def judged(*, error: float | None = None, tokens: float | None = None) -> Verdict:
    figures = Figures(group="all", elements=10, max_scaled=error, token_match=tokens)
    return Verdict(passed=True, reason="", outputs=(
        OutputVerdict(signature="s0", output="y", gate="", passed=True, reasons=(), figures=(figures,), worst=None),))


def candidate(name: str, *ratios: Ratio, kind: ArtifactKind = "savedmodel", status: Status = "ok",
              verdict: Verdict | None = None) -> CandidateResult:
    backend, _, precision = name.partition("/")
    made = Artifact(kind=kind, files={"s0": "model"}) if status in ("ok", "rejected") else None
    return CandidateResult(name=name, backend=backend, precision=precision or "native", status=status, artifact=made,
                           benchmark=timed(*ratios) if ratios else None, verdict=verdict)


ORIGINAL = candidate("original", ratio(1.0))
