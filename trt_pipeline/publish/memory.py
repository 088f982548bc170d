"""How much memory servers are given, from what the benchmark measured.

The host's figure is the peak of a process that held one candidate and its library, so the sum over models counts the
library once for each: an upper bound. The GPU's is what a candidate's process held of its memory. Where none was
measured, as on a machine without a GPU, the host's peak stands in for it, and the files say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from trt_pipeline.frozen import Frozen
from trt_pipeline.publish.select import ORIGINAL
from trt_pipeline.results import CandidateResult

# Requests come several at a time, and in larger batches than the benchmark's.
HOST_MARGIN, GPU_MARGIN = 1.5, 1.25
_STEP_MB = 64


class Memory(Frozen):
    """Peaks in MB (2**20 bytes) of one published version; None where it was not measured."""

    host: float | None = None
    gpu: float | None = None
    of_original: bool = False
    """Whether it is the original that was measured, because the candidate cannot run where it was made."""


class GpuLimit(Frozen):
    """A bound in MB, and whether it comes from a GPU's figures."""

    limit_mb: int
    measured: bool


def of_candidate(candidate: CandidateResult, candidates: Iterable[CandidateResult]) -> Memory:
    """The figures of ``candidate``; of the original among ``candidates`` where it was not timed itself."""
    for other in (candidate, *(c for c in candidates if c.name == ORIGINAL)):
        if timed := other.benchmark:
            gpu = timed.gpu_memory_mb
            return Memory(host=round(timed.peak_memory_mb, 1) or None, gpu=gpu and round(gpu, 1),
                          of_original=other.name != candidate.name)
    return Memory()


def host_limit_mb(figures: Sequence[Memory]) -> int | None:
    """What a process that holds all of ``figures`` may use of the host's memory; None where one is unknown."""
    known = [figure.host for figure in figures if figure.host]
    return _rounded(sum(known) * HOST_MARGIN) if known and len(known) == len(figures) else None


def gpu_limit(figures: Sequence[Memory]) -> GpuLimit | None:
    """What it may use of a GPU's memory; None where there is no figure to go by."""
    known = [figure.gpu or figure.host for figure in figures]
    if not known or any(not figure for figure in known):
        return None
    measured = all(figure.gpu and not figure.of_original for figure in figures)
    return GpuLimit(limit_mb=_rounded(sum(figure or 0 for figure in known) * GPU_MARGIN), measured=measured)


def explained(limit: GpuLimit) -> str:
    """Where ``limit`` comes from."""
    if limit.measured:
        return f"{GPU_MARGIN} times what was measured on a GPU, summed over models and loaded versions"
    return (f"not measured on a GPU: {GPU_MARGIN} times the peak of the host's memory, an upper bound, summed over "
            "models and loaded versions")


def session_text(limit: GpuLimit) -> str:
    """TensorFlow Serving's ``--tensorflow_session_config_file``: a ConfigProto in text.

    A fraction of the GPU's memory in this file is overwritten by the server's own flag; these fields are not.
    """
    return (f"# GPU memory: {explained(limit)}. CUDA's own context comes on top.\n"
            'gpu_options {\n  allow_growth: true\n  visible_device_list: "0"\n'
            f"  experimental {{ virtual_devices {{ memory_limit_mb: {limit.limit_mb} }} }}\n}}\n")


def onnxruntime_parameters(memory: Memory) -> dict[str, str]:
    """Parameters of Triton's onnxruntime: its arena's limit in bytes, where the model was measured on a GPU.

    Rounded up to a power of two: a measurement that differs a little is no reason for a new version.
    """
    if not memory.gpu or memory.of_original:
        return {}
    return {"gpu_mem_limit": str(2 ** math.ceil(math.log2(memory.gpu * GPU_MARGIN)) * 2**20)}


def _rounded(mb: float) -> int:
    return math.ceil(mb / _STEP_MB) * _STEP_MB
