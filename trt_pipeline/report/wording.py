"""What a run found, in sentences; the terminal and the HTML file say the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trt_pipeline.benchmarking.interleaved import BatchResult
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.config import loader
from trt_pipeline.errors import PipelineError
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.parity.excerpt import WorstSample
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.publish import select
from trt_pipeline.report import numbers
from trt_pipeline.results import CandidateResult, Publication, Trade
from trt_pipeline.run_result import RunResult
from trt_pipeline.served.verify import ServedResult

_METRICS = {"latency_p50": "p50 latency", "latency_p90": "p90 latency", "latency_p99": "p99 latency",
            "throughput": "throughput"}
# Facts of an environment that do not depend on the interpreter.
_MACHINE = ("machine", "cpu", "cores", "gpu")

# Of what may be many, so many are named.
_FEW = 3


def served(result: ServedResult) -> Iterator[str]:
    """How fast a running server answered, a line for each signature."""
    for name, one in result.signatures.items():
        version = "" if one.version is None else f" version {one.version}"
        text = f"{name}: {one.model}{version}: first request {one.first_request:.1f} ms"
        if one.steady:
            text += (f"; then p50 {one.steady.p50:.1f} ms, p90 {one.steady.p90:.1f} ms, p99 {one.steady.p99:.1f} ms "
                     f"at batch {one.batch_size}, {one.steady.requests} requests one after the other")
        yield text


def verdict(result: RunResult) -> str:
    """The whole run in one sentence."""
    measured = objective(result.objective)
    if not result.publications:
        best = select.fastest(result.candidates, result.objective)
        missed = f"; the run missed its gate: {result.gate.reason}" if result.gate and not result.gate.passed else ""
        if best is None:
            return ("Nothing was published, this run only judged: no candidate that passed beats the original in "
                    f"{measured}{missed}.")
        return (f"Nothing was published, this run only judged: the fastest candidate that passed is {best.name}, "
                f"{_times(select.ratio(best, result.objective))} by {measured}{missed}.")
    text = "; ".join(_clause(result, publication) for publication in result.publications)
    return f"{text[0].upper()}{text[1:]}."


def publication(found: Publication) -> str:
    """One publication in one line."""
    if found.candidate is None:
        return f"{found.target}: nothing published: {found.why}"
    state = "new" if found.new else "unchanged"
    return f"{found.target}: {found.candidate}, version {found.version} ({state}) at {found.path}: {found.why}"


def servers(result: RunResult) -> str:
    """Where the files are that servers are started with; empty where nothing was published."""
    folder = result.config.get("serving")
    if not folder or not any(found.path for found in result.publications):
        return ""
    return (f"servers: in {folder}: compose.yaml, kserve.yaml; models.config and "
            "batching_parameters.txt for TensorFlow Serving (docs/publishing.md)")


def objective(text: str) -> str:
    """``latency_p50@1`` as a reader says it."""
    metric, _, batch = text.partition("@")
    return f"{_METRICS.get(metric, metric)} at batch size {batch}"


def command(result: RunResult) -> str:
    """The command that does this run again."""
    if not result.publications and result.config.get("targets"):
        return f"trt-pipeline sweep {result.name}"
    if _is_in_config_folder(result):
        return f"make optimize MODEL={result.name}"
    return f"trt-pipeline optimize {result.name}"


def at_objective(candidate: CandidateResult, objective: str) -> BatchResult | None:
    """The timing that the objective's ratio comes from: of several signatures the least favourable."""
    wanted = select.ratio(candidate, objective)
    if wanted is None or candidate.benchmark is None:
        return None
    metric = objective.partition("@")[0]
    return next((batch for batch in candidate.benchmark.batches if batch.ratios[metric] == wanted), None)


def parity(candidate: CandidateResult) -> str:
    """The parity error in words where it is none or cannot be told; with a ~ where it is an estimate."""
    if candidate.verdict is None:
        return numbers.NONE
    value = select.parity_error(candidate)
    text = "not comparable" if value is None else "exact" if value == 0 else numbers.error(value)
    return f"~{text}" if candidate.verdict.estimate else text


def excess(sample: WorstSample) -> str:
    """How far a sample is from what its gate allows."""
    if sample.excess is None:
        return "not equal, where nothing may differ or no number says by how much"
    return f"{sample.excess:.3g} times its bound" + (", within it" if sample.excess <= 1 else "")


def libraries(found: Interpreter) -> str:
    """What an interpreter has, the machine left out: ``python 3.10.13, tensorflow 2.17.1``."""
    known = {name: version for name, version in found.environment.items() if name not in _MACHINE}
    return described([f"{name} {version}" for name, version in known.items()])


def coverage(candidate: CandidateResult) -> str:
    """How much of each signature the backend took over; empty where that is no question."""
    if candidate.artifact is None:
        return ""
    return "; ".join(f"{signature}: {known}" for signature, known in candidate.artifact.coverage.items())


def precision(candidate: CandidateResult) -> str:
    """What of each signature really computes in the candidate's precision; empty where that is no question."""
    if candidate.artifact is None:
        return ""
    return "; ".join(f"{signature}: {known}" for signature, known in candidate.artifact.low_precision.items())


def islands(trade: Trade) -> str:
    """Which nodes stay in float32, and what that gained and cost, in one clause."""
    parts = []
    for signature, one in trade.islands.signatures.items():
        where = f"{signature}: " if len(trade.islands.signatures) > 1 else ""
        how = "on the candidate itself" if one.tried else "by emulation"
        tried = f"; {len(one.curve)} sets tried {how}" if one.curve else ""
        if not one.nodes:
            nearest = min((point.distance for point in one.curve if point.raised < one.of), default=one.before)
            parts.append(f"{where}none" if one.passed else
                         f"{where}no set of nodes keeps the gate, the nearest is {nearest:.3g} times its bound{tried}")
            continue
        more = f" and {len(one.nodes) - _FEW} more" if len(one.nodes) > _FEW else ""
        gained = "" if one.after is None else (
            f" bring the error from {one.before:.3g} to {one.after:.3g} times its bound")
        parts.append(f"{where}{len(one.nodes)} of {one.of} nodes in float32{gained} "
                     f"({', '.join(one.nodes[:_FEW])}{more}{tried})")
    return "; ".join(parts)


def trade(candidate: CandidateResult, objective: str) -> str:
    """Error and speed without islands and with them, as measured; empty where there are none to compare."""
    known = candidate.islands
    if known is None or known.before is None or not known.islands.raised or candidate.verdict is None:
        return ""
    before = CandidateResult(name=candidate.name, backend=candidate.backend, precision=candidate.precision,
                             status="rejected", verdict=known.before, benchmark=known.benchmark_before)
    text = f"parity error {parity(before)} without islands, {parity(candidate)} with them"
    if before.benchmark and candidate.benchmark:
        speeds = [numbers.ratio(select.ratio(one, objective)) for one in (before, candidate)]
        text += f"; {_METRICS.get(objective.partition('@')[0], objective)}: {speeds[0]} without, {speeds[1]} with"
    return text


def estimated(verdict: Verdict) -> str:
    """What is known of a candidate that could not run here, in one clause."""
    if verdict.estimate is None:
        return ""
    text = ""
    if surgery := verdict.estimate.surgery:
        exact = "exact" if surgery.error == 0 else f"within {numbers.error(surgery.error)}"
        text = f"converted graph {exact} in float32; "
    if verdict.estimate.missing:
        return f"{text}not estimated: {verdict.estimate.missing}"
    text += "estimated on CPU: " + ("passes its gate" if verdict.passed else f"would fail its gate: {verdict.reason}")
    hazards = verdict.estimate.overflows
    if hazards:
        first = ", ".join(f"{name} ({value:.2g})" for name, value in list(hazards.items())[:_FEW])
        more = f" and {len(hazards) - _FEW} more" if len(hazards) > _FEW else ""
        text += f"; beyond FP16's range: {first}{more}"
    if verdict.estimate.underflows:
        text += f"; FP16 leaves nothing of {', '.join(verdict.estimate.underflows[:_FEW])}"
    return text


def described(value: Any) -> str:
    """Nested facts on one line: ``translate: nodes 1,204, bytes 7,198,465``."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {described(inner)}" if isinstance(inner, dict) else f"{key} {described(inner)}"
                         for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(described(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _clause(result: RunResult, found: Publication) -> str:
    if found.candidate is None:
        return f"nothing was published for {found.target}: {found.why}"
    done = "published" if found.new else "kept"
    where = f"for {found.target} as version {found.version} in {found.path}"
    if found.candidate == select.ORIGINAL:
        return (f"{done} the original {where}, because no candidate that it can load beats the original in "
                f"{objective(result.objective)}")
    ratio = select.ratio(result.candidate(found.candidate), result.objective)
    text = f"{done} {found.candidate} {where}, {_times(ratio)} by {objective(result.objective)}"
    return text if ratio is None or ratio.faster else f"{text}, because that server cannot load the original"


def _times(ratio: Ratio | None) -> str:
    if ratio is None:
        return "not timed against the original"
    times = "times as fast as the original" if ratio.faster else "times the original's speed"
    return f"{ratio.value:.2f} {times} (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"


def _is_in_config_folder(result: RunResult) -> bool:
    """Whether the configuration of that name that lies here is the one that the run had."""
    path = loader.CONFIG_FOLDER / f"{result.name}.yaml"
    try:
        return path.is_file() and loader.load(path).model_dump(mode="json") == result.config
    except (PipelineError, OSError):
        return False
