"""Memory of the GPUs that this process may use and who holds it, from the driver through NVML; needs no CUDA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trt_pipeline.errors import MissingError
from trt_pipeline.frozen import Frozen

MB = 2**20
OVERHEAD = 600 * MB
"""Roughly what CUDA's context and its libraries take of each process besides tensors."""


class Holder(Frozen):
    """A process that holds memory of a GPU; ``used`` in bytes, None where the driver does not say."""

    pid: int
    name: str
    """Empty for processes of other containers, of which the driver tells just a number."""
    used: int | None

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" ({self.name})" if self.name else "")


class Gpu(Frozen):
    """One GPU, or part of one. ``total`` and ``free`` in bytes; holders with the most memory first."""

    name: str
    total: int
    free: int
    holders: tuple[Holder, ...]

    def __str__(self) -> str:
        held = "; ".join(f"{holder} holds {_mb(holder.used)}" if holder.used else f"{holder} is there"
                         for holder in self.holders)
        return f"{self.name}: {self.free // MB} of {_mb(self.total)} free" + (f"; {held}" if held else "")


def gpus() -> list[Gpu] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; None where there is no driver to ask.

    NVML numbers GPUs by their slot, as CUDA does under CUDA_DEVICE_ORDER=PCI_BUS_ID and wherever all are alike.
    """
    with _nvml() as nvml:
        if nvml is None:
            return None
        found = (_examine(nvml, handle) for handle in _visible(nvml))
        return [gpu for gpu in found if gpu]


def used_by(pid: int) -> int | None:
    """Bytes that the process ``pid`` holds of all GPUs it may use; None where the driver does not say."""
    held = [holder.used for gpu in gpus() or () for holder in gpu.holders if holder.pid == pid]
    known = [used for used in held if used is not None]
    return sum(known) if known else None


def driver() -> str | None:
    """The driver's version; None where there is none."""
    with _nvml() as nvml:
        return None if nvml is None else str(nvml.nvmlSystemGetDriverVersion())


def check(need: int, what: str, cure: str) -> None:
    """Refuse what the first GPU has no room for, before a library takes what is left and dies of it.

    Nothing is refused where there is no GPU to be seen.

    Args:
        need: bytes, without `OVERHEAD`.
        what: that takes them.
        cure: what to do besides stopping who holds the memory.

    Raises:
        MissingError: less is free than ``need`` and `OVERHEAD`; names the processes that hold it.
    """
    found = gpus()
    if not found:
        return
    gpu, asked = found[0], need + OVERHEAD
    if asked <= gpu.free:
        return
    room = f"of its {_mb(gpu.total)} {gpu.free // MB} are free, and {what} may take {asked // MB}"
    if asked > gpu.total:
        raise MissingError(f"the GPU is too small: {room}: {cure}")
    holders = " and ".join(map(str, gpu.holders)) or "a process of another user or container"
    rest = (gpu.total - asked) * 100 // gpu.total / 100
    raise MissingError(f"the GPU is held by {holders}: {room}: {cure}, or stop it; were it TensorFlow Serving, "
                       f"--per_process_gpu_memory_fraction={rest:.2f} would leave enough")


def _mb(size: int | None) -> str:
    return f"{(size or 0) // MB} MB"


@contextmanager
def _nvml() -> Iterator[Any]:
    """The library, ready to be asked; None where it or the driver is missing."""
    try:
        import pynvml  # type: ignore[import-untyped]

        pynvml.nvmlInit()
    except (ImportError, OSError):
        yield None
        return
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _visible(nvml: Any) -> list[Any]:
    """Handles in CUDA's order; like CUDA, nothing from the first name on that is wrong."""
    every = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return every
    found: list[Any] = []
    for name in (name.strip() for name in names.split(",")):
        handle = _named(nvml, every, name)
        if handle is None:
            break
        found.append(handle)
    return found


def _named(nvml: Any, every: list[Any], name: str) -> Any:
    if name.isdecimal():
        return every[int(name)] if int(name) < len(every) else None
    if name.startswith("MIG-"):
        try:
            return nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError:
            return None
    if not name.startswith("GPU-"):
        return None
    matching = [handle for handle in every if nvml.nvmlDeviceGetUUID(handle).startswith(name)]
    return matching[0] if len(matching) == 1 else None


def _examine(nvml: Any, handle: Any) -> Gpu | None:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:  # the GPU has no memory of its own, or is lost
        return None
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        processes = []
    holders = [Holder(pid=p.pid, name=_process_name(p.pid), used=p.usedGpuMemory) for p in processes]
    return Gpu(name=nvml.nvmlDeviceGetName(handle), total=memory.total, free=memory.free,
               holders=tuple(sorted(holders, key=lambda holder: -(holder.used or 0))))


def _process_name(pid: int) -> str:
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return ""
