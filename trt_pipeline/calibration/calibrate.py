"""Measure a model's ranges on samples of any number, in the memory of the model and a sample for each job."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trt_pipeline import digest
from trt_pipeline.calibration import equal_bins, methods
from trt_pipeline.calibration.checkpoint import Checkpoint, Counts
from trt_pipeline.calibration.histogram import Extent, Histogram
from trt_pipeline.calibration.ranges import Method, Range, RangesFile, SignatureRanges
from trt_pipeline.calibration.taps import Listener, Tapped
from trt_pipeline.calibration.tensors import constant_ranges, wanted
from trt_pipeline.conversion import canonical, freeze
from trt_pipeline.errors import InputError, SamplesError, Unsupported, one_line
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.samples.store import Samples

if TYPE_CHECKING:
    from trt_pipeline.conversion.freeze import SignatureGraph

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


@dataclass
class Measured:
    """What a signature's samples made of its graph's tensors, before any method is chosen."""

    count: int
    """Samples."""
    tensors: Counts
    """Scoped name -> its `Histogram`, or, of what no int8 operation reads or makes, its `Extent`."""
    constants: dict[str, Range] = field(default_factory=dict)

    def ranges(self, method: Method, percentile: float = 99.99) -> SignatureRanges:
        """The ranges by ``method`` (see `methods.range_of`); what never held a finite value has none."""
        seen = {name: one for name, one in self.tensors.items() if one.count}
        ranges = {name: methods.range_of(one, method, percentile)
                  for name, one in seen.items() if isinstance(one, Histogram)}
        return SignatureRanges(ranges=dict(sorted((ranges | self.constants).items())),
                               extents={name: (one.low, one.high) for name, one in sorted(seen.items())})


def calibrate(model: Path, contract: Contract, samples: Mapping[str, Samples], signatures: Sequence[str], *,
              method: Method = "minmax", percentile: float = 99.99, model_digest: str, samples_digest: str,
              checkpoint: Path | None = None, most: int | None = None, jobs: int | None = None,
              progress: Progress = lambda done, total: None) -> RangesFile:
    """The ranges of the tensors of ``signatures``, by ``method``, on their samples: see `measure`.

    A signature that cannot be measured is left out, and ``skipped`` of the result says why.

    Args:
        model: the SavedModel's folder.
        percentile: see `methods.by_percentile`; of no consequence to other methods.
        model_digest, samples_digest: what the result is said to be of.

    Raises:
        SamplesError, InputError, OutputError: as `measure`.
    """
    key = digest.of_value({"model": model_digest, "samples": samples_digest, "signatures": list(signatures),
                           "most": most})
    measured, skipped = measure(model, contract, samples, signatures, key=key, checkpoint=checkpoint, most=most,
                                jobs=jobs, progress=progress)
    signature_ranges = {name: one.ranges(method, percentile) for name, one in measured.items()}
    return RangesFile(
        method=f"percentile {percentile:g}" if method == "percentile" else method, model_digest=model_digest,
        samples_digest=samples_digest, count=max(one.count for one in measured.values()), skipped=skipped,
        signatures=signature_ranges,
        histograms=equal_bins.most_telling({name: one.tensors for name, one in measured.items()},
                                           {name: one.ranges for name, one in signature_ranges.items()}))


def measure(model: Path, contract: Contract, samples: Mapping[str, Samples], signatures: Sequence[str], *,
            key: str = "", checkpoint: Path | None = None, most: int | None = None, jobs: int | None = None,
            progress: Progress = lambda done, total: None) -> tuple[dict[str, Measured], dict[str, str]]:
    """Run ``signatures`` on their samples, one at a time and in true length, and count what their tensors hold.

    The result does not depend on ``jobs``, nor on whether it was interrupted on the way. Infinity where
    nothing is quantized, as in an attention mask, is no error; extents are of finite values.

    Args:
        samples: by signature.
        key: a digest of the model, the samples and which of them are used: a ``checkpoint`` with another is ignored.
        checkpoint: file in which the counts are kept from time to time, to go on from if this process
            is killed; removed at the end.
        most: so many samples of a signature at most; None for all.
        jobs: samples that run at the same time; None for one a core.
        progress: called with (batches done, batches in all) of all signatures.

    Returns:
        By signature what was measured, and why the others were not.

    Raises:
        SamplesError: there are no samples for any of the signatures, or the model fails on one.
        InputError: no signature can be frozen, or a value that is to be quantized is NaN or infinite.
        OutputError: the checkpoint cannot be written.
    """
    import tensorflow as tf

    chosen = {name: _Signature(contract.signature(name), samples[name], most)
              for name in signatures if name in samples and len(samples[name])}
    if not chosen:
        raise SamplesError(f"there are no samples for {', '.join(signatures)}: calibration runs the model on some")
    skipped = {name: "there are no samples for it" for name in signatures if name not in chosen}
    kept = Checkpoint(checkpoint, digest.of_value([key, digest.of_this_package(), tf.__version__]))
    loaded = tf.saved_model.load(str(model), tags=list(contract.tags))
    total, before = sum(len(one.batches) for one in chosen.values()), 0
    measured: dict[str, Measured] = {}
    for name, signature in chosen.items():
        try:
            graph, constants = _graph(loaded.signatures[name])
        except Unsupported as error:
            skipped[name] = str(error)
            before += len(signature.batches)
            continue
        counting = _Counting(signature, graph, {
            other: (len(chosen[other].batches), one.tensors) for other, one in measured.items()}, kept)
        counting.run(jobs or os.cpu_count() or 1, functools.partial(_report, progress, before, total))
        before += len(signature.batches)
        measured[name] = Measured(signature.count, counting.counts, constants | counting.constants)
    if not measured:
        raise InputError("no signature can be calibrated: " + "; ".join(f"{n}: {why}" for n, why in skipped.items()))
    kept.remove()
    return measured, skipped


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


class _Signature:
    """A signature and the samples that it is fed."""

    def __init__(self, contract: SignatureContract, samples: Samples, most: int | None) -> None:
        self.contract, self._samples = contract, samples
        self.batches = samples.batches(contract.fixed_batch or 1, most)
        self.count = len(samples) if most is None else min(len(samples), most)

    def feeds(self, number: int) -> dict[str, Array]:
        """Batch ``number`` by input, with the defaults of inputs that the samples leave out."""
        feeds = self._samples.take(self.batches[number])
        return feeds | self.contract.left_out(feeds)

    def called(self, number: int) -> str:
        """Batch ``number`` in words."""
        rows = self.batches[number]
        samples = f"sample {rows[0]}" if len(rows) == 1 else f"samples {rows[0]} to {rows[-1]}"
        return f"signature {self.contract.name}: {samples}"


class _Counting:
    """The counts of one signature while they grow."""

    def __init__(self, signature: _Signature, graph: SignatureGraph, earlier: dict[str, tuple[int, Counts]],
                 kept: Checkpoint) -> None:
        self._signature, self._earlier, self._kept = signature, earlier, kept
        chosen = wanted(graph.graph_def, graph.output_tensors)
        self.constants = chosen.constants
        self._quantizable = set(chosen.histograms)
        self.counts: Counts = {name: Histogram() for name in chosen.histograms}
        self.counts |= {name: Extent() for name in chosen.extents}
        self._done = kept.read(signature.contract.name, self.counts)
        self._odd: list[str] = []
        """Tensors that held NaN or infinity, in the order in which they did."""
        self._tapped = Tapped(graph, {name: self._listener(name, one) for name, one in self.counts.items()})

    def run(self, jobs: int, progress: Callable[[int], None]) -> None:
        """Count all batches that were not counted yet, ``jobs`` of them at a time."""
        waiting = iter(range(self._done, len(self._signature.batches)))
        running: dict[Future[None], int] = {}
        saved, saved_at = self._done, time.monotonic()
        progress(self._done)
        with ThreadPoolExecutor(jobs) as pool:
            while True:
                # A checkpoint is of the first so many batches, so those that run have to end first.
                due = self._done > saved and time.monotonic() - saved_at >= _SECONDS_BETWEEN_CHECKPOINTS
                while not due and len(running) < jobs and (number := next(waiting, None)) is not None:
                    running[pool.submit(self._count, number)] = number
                if running:
                    self._collect(running)
                    progress(self._done)
                elif due:
                    self._kept.write(self._earlier | {self._signature.contract.name: (self._done, self.counts)})
                    saved, saved_at = self._done, time.monotonic()
                else:
                    return

    def _collect(self, running: dict[Future[None], int]) -> None:
        """Wait until one of ``running`` ends, and take out those that did."""
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        # Any of those that were still running may have made what is odd.
        suspects = sorted(running.values())
        for future in ended:
            del running[future]
            future.result()
            self._done += 1
        if self._quantizable.intersection(self._odd):
            wait(running)
            raise self._blame(suspects)

    def _count(self, number: int) -> None:
        feeds = self._signature.feeds(number)
        try:
            self._tapped(feeds)
        except Exception as error:  # TensorFlow raises a type of its own for every status
            raise SamplesError(f"{self._signature.called(number)}: the model fails: {one_line(error)}") from error

    def _blame(self, suspects: list[int]) -> InputError:
        """The error that names the first of these batches, and the tensor, with what cannot be quantized."""
        for number in suspects:
            self._odd.clear()
            self._count(number)
            odd = [name for name in self._odd if name in self._quantizable]
            if odd:
                begins = f" (it begins in {self._odd[0]})" if self._odd[0] != odd[0] else ""
                return InputError(f"{self._signature.called(number)}: {odd[0]} holds NaN or infinity{begins}: "
                                  "leave the sample out, or mend the model")
        return InputError(f"signature {self._signature.contract.name}: {self._odd[0]} held NaN or infinity once, "
                          "and not again: the model does not repeat itself")

    def _listener(self, name: str, counted: Extent) -> Listener:
        def listen(value: Array) -> None:
            if not counted.add(value) and name not in self._odd:
                self._odd.append(name)

        return listen


def _graph(function: Any) -> tuple[SignatureGraph, dict[str, Range]]:
    """The canonical graph of a signature, and the ranges of its weights as they were before batch norms were folded.

    TF-TRT quantizes the graph that was not folded.
    """
    plain = canonical.unfolded(freeze.freeze(function))
    return canonical.folded(plain), constant_ranges(plain.graph_def)
