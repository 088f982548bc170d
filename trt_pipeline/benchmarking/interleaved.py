"""Time a candidate against the original: blocks of both in turn, on the same unique inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt

from trt_pipeline.benchmarking.runner_process import RunnerProcess, Side
from trt_pipeline.benchmarking.statistics import Latency, Ratio, latency, ratios
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.samples.store import Samples

Progress = Callable[[int, int], None]
Seconds = npt.NDArray[np.float64]
# A block is long enough that a timer's and a pipe's cost vanish, short enough that both sides see
# the same machine.
_BLOCK_S = 0.1
_WARM_UP_REQUESTS = 3
_FEWEST_ROUNDS = 10


class BatchResult(Frozen):
    """One signature at one batch size."""

    signature: str
    batch_size: int
    original: Latency
    candidate: Latency
    ratios: dict[str, Ratio]
    fixed: bool = False
    """Whether the signature takes no other batch size."""


class Rival(Frozen):
    """A candidate that makes another one not worth measuring further once that is slower beyond doubt."""

    name: str
    metric: str
    batch_size: int
    speed: float
    """The lower end of its ratio by ``metric`` at ``batch_size``."""


class BenchmarkResult(Frozen):
    """A candidate's timings. Times in seconds, memory of the candidate's process in MB."""

    batches: tuple[BatchResult, ...]
    load_s: float
    first_request_s: float
    original_load_s: float
    original_first_request_s: float
    peak_memory_mb: float
    original_peak_memory_mb: float
    gpu_memory_mb: float | None = None
    """Of the GPU's memory; None where it used none."""
    original_gpu_memory_mb: float | None = None
    stopped: str = ""
    """Why it was not measured at every batch size; empty where it was."""

    def ratio(self, metric: str, batch_size: int) -> Ratio | None:
        """The ratio of ``metric`` at ``batch_size``; of several signatures the least certain one.

        A signature with a fixed batch size counts with that one. None where nothing was measured.
        """
        found = [b.ratios[metric] for b in self.batches if b.batch_size == batch_size or b.fixed]
        return min(found, key=lambda ratio: ratio.low, default=None)


def compare(original: Side, candidate: Side, signatures: dict[str, SignatureContract], batch_sizes: tuple[int, ...],
            duration_s: float, progress: Progress = lambda done, total: None,
            rivals: Sequence[Rival] = ()) -> BenchmarkResult:
    """Run both sides in processes of their own and time them in turn.

    Both get the same batches in the same round; no batch is repeated before all samples were used. As soon as
    the candidate is slower than one of ``rivals`` beyond the uncertainty of both, it is measured no further.
    """
    with RunnerProcess(original) as a, RunnerProcess(candidate) as b:
        load_a, load_b = a.load()["load_s"], b.load()["load_s"]
        first_name = next(iter(signatures))
        first = [_rows(signatures[first_name].fixed_batch or 1, count(), _samples(original, first_name))]
        first_a, first_b = a.time(first_name, first)[0], b.time(first_name, first)[0]
        plan = [(name, size) for name, contract in signatures.items() for size in _sizes(contract, batch_sizes)]
        # What a rival is compared by comes first; the order does not matter otherwise.
        plan.sort(key=lambda part: not any(part[1] == rival.batch_size for rival in rivals))
        results, rival = [], None
        for done, (name, size) in enumerate(plan):
            fixed = signatures[name].fixed_batch is not None
            judged = [rival for rival in rivals if size == rival.batch_size or fixed]
            result, rival = _compare_batch(a, b, name, size, fixed, duration_s, _samples(original, name), judged)
            results.append(result)
            progress(done + 1, len(plan))
            if rival:
                break
        return BenchmarkResult(
            batches=tuple(results), load_s=load_b, first_request_s=first_b, original_load_s=load_a,
            original_first_request_s=first_a, peak_memory_mb=b.peak_memory_mb(),
            original_peak_memory_mb=a.peak_memory_mb(), gpu_memory_mb=b.gpu_memory_mb(),
            original_gpu_memory_mb=a.gpu_memory_mb(),
            stopped=_why_stopped(results[-1], rival) if rival else "")


def _compare_batch(a: RunnerProcess, b: RunnerProcess, name: str, size: int, fixed: bool, duration_s: float,
                   samples: int, rivals: Sequence[Rival]) -> tuple[BatchResult, Rival | None]:
    """One signature at one batch size, and who makes it not worth measuring further, if somebody does."""
    counter = count()

    def block(requests: int) -> list[list[int]]:
        return [_rows(size, counter, samples) for _ in range(requests)]

    warm = block(_WARM_UP_REQUESTS)
    slowest = max(min(a.time(name, warm)), min(b.time(name, warm)))
    requests = max(1, round(_BLOCK_S / slowest))
    series: tuple[list[Seconds], list[Seconds]] = ([], [])
    beaten_by, asked = None, _FEWEST_ROUNDS
    ends = time.monotonic() + duration_s
    while time.monotonic() < ends or len(series[0]) < _FEWEST_ROUNDS:
        batches = block(requests)
        order = (0, 1) if len(series[0]) % 2 == 0 else (1, 0)
        for side in order:
            series[side].append(np.array((a, b)[side].time(name, batches)))
        if rivals and len(series[0]) == asked:
            # At every doubling: asked more often, chance would have more occasions to say yes.
            asked *= 2
            began = time.monotonic()
            if beaten_by := _dominating(ratios(*series), rivals):
                break
            ends += time.monotonic() - began  # the question is not part of the measuring
    return BatchResult(signature=name, batch_size=size, fixed=fixed, original=latency(np.concatenate(series[0]), size),
                       candidate=latency(np.concatenate(series[1]), size), ratios=ratios(*series)), beaten_by


def _dominating(measured: dict[str, Ratio], rivals: Sequence[Rival]) -> Rival | None:
    """Who is surely faster; None where the intervals leave it open."""
    return next((rival for rival in rivals if measured[rival.metric].high < rival.speed), None)


def _why_stopped(batch: BatchResult, rival: Rival) -> str:
    return (f"dominated by {rival.name}, which is no further from the original: {rival.metric}@{rival.batch_size} "
            f"{batch.ratios[rival.metric]} against at least {rival.speed:.2f}x")


def _sizes(contract: SignatureContract, batch_sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (contract.fixed_batch,) if contract.fixed_batch else batch_sizes


def _rows(size: int, counter: Iterator[int], samples: int) -> list[int]:
    return [next(counter) % samples for _ in range(size)]


def _samples(side: Side, signature: str) -> int:
    return max(len(Samples(side.samples[signature], side.padding)), 1)  # without inputs there is one request
