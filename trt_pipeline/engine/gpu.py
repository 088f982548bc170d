"""The GPU that CUDA would use, asked of the driver's own library: no CUDA toolkit, no package is needed for that."""

from __future__ import annotations

import ctypes
from pathlib import Path

from trt_pipeline.frozen import Frozen

_DRIVER_VERSION = Path("/sys/module/nvidia/version")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


class Gpu(Frozen):
    """The first GPU that this process sees (CUDA_VISIBLE_DEVICES chooses)."""

    name: str
    compute_capability: str
    """As in ``"8.6"``."""
    total_bytes: int
    free_bytes: int
    driver: str
    """The driver's version; empty where it does not say."""
    cuda: str
    """The newest CUDA version that the driver can run."""


def find() -> Gpu | None:
    """The GPU, or None where there is none or its driver does not work."""
    try:
        return _ask(ctypes.CDLL("libcuda.so.1"))
    except (OSError, AttributeError):  # the latter of a driver from before CUDA 11, which no TensorRT here can use
        return None


def cuda_version(number: int) -> str:
    """CUDA's own 12040 as ``"12.4"``."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _ask(cuda: ctypes.CDLL) -> Gpu | None:
    device, version = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDriverGetVersion(ctypes.byref(version)):
        return None
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    free, total = _memory(cuda, device)
    return Gpu(name=name.value.decode(), driver=_driver_version(), total_bytes=total, free_bytes=free,
               compute_capability=f"{_attribute(cuda, _MAJOR, device)}.{_attribute(cuda, _MINOR, device)}",
               cuda=cuda_version(version.value))


def _attribute(cuda: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value


def _memory(cuda: ctypes.CDLL, device: ctypes.c_int) -> tuple[int, int]:
    """Free and total bytes; what is free only a context can say, and the primary one is made anyway."""
    context, before = ctypes.c_void_p(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    cuda.cuCtxGetCurrent(ctypes.byref(before))
    if cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0:
        cuda.cuCtxSetCurrent(context)
        cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        cuda.cuCtxSetCurrent(before)
        cuda.cuDevicePrimaryCtxRelease_v2(device)
    return free.value, total.value


def _driver_version() -> str:
    try:
        return _DRIVER_VERSION.read_text().strip()
    except OSError:
        return ""
