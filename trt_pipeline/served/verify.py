"""Judge what a running server answers as a candidate is judged, and time it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trt_pipeline.benchmarking.statistics import Latency, latency
from trt_pipeline.errors import PipelineError
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.parity.judge import Verdict, judge
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples.store import Samples
from trt_pipeline.served.runner import ServedRunner

Progress = Callable[[int, int], None]
_LONGEST_TIMING_S = 20.0


class ServedSignature(Frozen):
    """What answered for one signature, and how fast. Times are the client's, arrays to arrays, in milliseconds."""

    model: str
    version: int | None
    """None where the server tells none."""
    first_request: float
    batch_size: int
    """Of the steady requests; one after the other."""
    steady: Latency | None
    """None where there were none: not asked for, or the gate was not met."""


class ServedResult(Frozen):
    """The verdict on a running server."""

    server: str
    """The address."""
    described: str
    """What serves there, as far as it says."""
    precision: str
    """Whose default bounds applied."""
    precision_from: str
    """How that was known."""
    verdict: Verdict
    signatures: dict[str, ServedSignature]


def verify(runner: ServedRunner, reference: Reference, folder: Path, samples: dict[str, Samples], gate: Gate,
           precision: str, requests: int, progress: Progress) -> tuple[Verdict, dict[str, ServedSignature]]:
    """Replay all cases through the server, then ``requests`` lone ones of each signature.

    Args:
        reference, folder: the original's answers.

    Raises:
        UnreachableError: the server answers no longer.
    """
    with runner:
        verdict = judge(runner, reference, folder, samples, gate, precision, progress)
        if runner.lost:
            raise runner.lost
        first = {name: taken[0] for name, taken in runner.seconds.items()}
        steady = {}
        if verdict.passed:
            steady = {name: _timed(runner, runner.contract.signatures[name], samples[name], requests) for name in first}
    return verdict, {
        name: ServedSignature(model=there.model, version=there.version, first_request=1e3 * first[name],
                              batch_size=_batch_size(runner.contract.signatures[name]), steady=steady.get(name))
        for name, there in runner.endpoints.items() if name in first}


def _timed(runner: ServedRunner, signature: SignatureContract, samples: Samples, requests: int) -> Latency | None:
    count, size, ends = max(len(samples), 1), _batch_size(signature), time.monotonic() + _LONGEST_TIMING_S
    taken = runner.seconds[signature.name]
    before = len(taken)
    while len(taken) < before + requests and time.monotonic() < ends:
        start = (len(taken) - before) * size
        try:
            runner.infer(signature.name, samples.take([(start + i) % count for i in range(size)]))
        except PipelineError:
            if runner.lost:
                raise runner.lost from None
            raise
    return latency(np.array(taken[before:]), size) if len(taken) > before else None


def _batch_size(signature: SignatureContract) -> int:
    return signature.fixed_batch or 1
