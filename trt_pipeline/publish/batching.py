"""Which batches a published model takes, and what TensorFlow Serving's batcher is told of it.

TensorFlow Serving has one file of batching parameters for all models, which has to hold for each of them: its
largest batch is the smallest of the models' largest, and larger requests are refused. From 2.11 on it reads
`batching_params.pbtxt` in a version's folder instead, where it is told to; a version without that file is not batched.

Not every model should be. Requests whose shapes differ behind the batch axis cannot share a batch: the server fails
all of them, or, with ``pad_variable_length_inputs``, lengthens each with copies of its own first value, which to a
sentence is its first word again. So that stays off, and only signatures whose inputs have no other free axis get
the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from trt_pipeline.backends.base import Artifact
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import SignatureContract

PER_VERSION = "batching_params.pbtxt"
# What waits beyond is refused. The server's own default, 10, is soon full where batches are small.
_WAITING = 100


class Batches(Frozen):
    """The batches that a model takes: from ``least`` to ``most`` rows, and best in one of ``sizes``."""

    least: int
    most: int
    sizes: tuple[int, ...]
    """Ascending; the last is ``most``."""
    filled: bool = False
    """Whether any other batch is better filled up to one of ``sizes``, as engines are built for them."""
    uniform: bool = False
    """Whether any two requests of a signature can share a batch: only the leading axes are free."""


def of_artifact(artifact: Artifact, signatures: Mapping[str, SignatureContract], max_batch_size: int) -> Batches | None:
    """What every signature of ``artifact`` takes; None where they agree on no size.

    Sizes are those that engines are built for; of anything else, powers of two up to ``max_batch_size``.
    """
    return common(_of_signature(artifact, contract, max_batch_size) for contract in signatures.values())


def common(several: Iterable[Batches]) -> Batches | None:
    """What all of ``several`` take; None where there is no such size, or nothing is given."""
    every = list(several)
    least, most = max((b.least for b in every), default=1), min((b.most for b in every), default=0)
    if least > most:
        return None
    sizes = {size for b in every for size in b.sizes if least <= size <= most} | {most}
    return Batches(least=least, most=most, sizes=tuple(sorted(sizes)), filled=any(b.filled for b in every),
                   uniform=all(b.uniform for b in every))


def text(batches: Batches | None) -> str:
    """BatchingParameters for a model, or for several that have ``batches`` in common; None has no batch but of one.

    Sizes are only named where there are engines for them: to anything else, filled up rows are work for nothing.
    """
    from trt_pipeline.serve import batching_parameters  # the server comes with it

    most, sizes = (batches.most, batches.sizes if batches.filled else ()) if batches else (1, ())
    return batching_parameters.text(batching_parameters.BatchingParameters(
        max_batch_size=most, batch_timeout_micros=0, max_enqueued_batches=_WAITING, allowed_batch_sizes=sizes))


def _of_signature(artifact: Artifact, contract: SignatureContract, max_batch_size: int) -> Batches:
    if contract.fixed_batch is not None:
        only = contract.fixed_batch
        return Batches(least=only, most=only, sizes=(only,), filled=True)
    uniform = contract.batched and all(t.batched for t in contract.outputs.values()) and all(
        size is not None for t in contract.inputs.values() for size in (t.shape or ())[1:])
    ranges = list(_engine_ranges(artifact, contract))
    least, most = _reach(ranges) if ranges else (1, max_batch_size)
    most = max(least, min(most, max_batch_size))
    wanted = [size for sizes in ranges for size in sizes] or [2**n for n in range(most.bit_length())]
    sizes = {size for size in wanted if least <= size <= most} | {most}
    return Batches(least=least, most=most, sizes=tuple(sorted(sizes)), filled=bool(ranges), uniform=uniform)


def _engine_ranges(artifact: Artifact, contract: SignatureContract) -> Iterator[tuple[int, int, int]]:
    """Smallest, usual and largest batch of each profile of the signature's engine."""
    inputs = artifact.core.get(contract.name, contract).inputs
    for profile in artifact.profiles.get(contract.name, ()):
        if extents := [extent for name, extent in profile.items() if name in inputs and inputs[name].batched]:
            yield (max(e.min[0] for e in extents), min(e.opt[0] for e in extents), min(e.max[0] for e in extents))


def _reach(ranges: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """From the smallest batch on, the largest up to which some profile takes every batch."""
    least, _, most = min(ranges)
    for low, _, high in sorted(ranges):
        if low <= most + 1:
            most = max(most, high)
    return least, most
