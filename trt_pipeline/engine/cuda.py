"""What the runner needs of the CUDA runtime, by ctypes: no toolkit, nothing to compile.

Polygraphy's wrapper finds the system's library. It has no pinned memory, no events and no graphs, and of
an error it tells the number only, so the calls are here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint8, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.engine.gpu import cuda_version
from trt_pipeline.errors import MissingError

_TO_DEVICE, _TO_HOST = 1, 2
_OUT_OF_MEMORY = 2
_THREAD_LOCAL = 1  # of the capture modes the one in which other threads' allocations do no harm

FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (POINTER(c_int),), "cudaGetLastError": (), "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaHostAlloc": (POINTER(c_void_p), c_size_t, c_uint), "cudaFreeHost": (c_void_p,),
    "cudaMalloc": (POINTER(c_void_p), c_size_t), "cudaFree": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (POINTER(c_void_p), c_uint), "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaEventCreate": (POINTER(c_void_p),), "cudaEventRecord": (c_void_p, c_void_p), "cudaEventDestroy": (c_void_p,),
    "cudaEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cudaStreamBeginCapture": (c_void_p, c_int), "cudaStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    # Not cudaGraphInstantiate, whose arguments CUDA 12 changed.
    "cudaGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p), "cudaGraphDestroy": (c_void_p,), "cudaGraphExecDestroy": (c_void_p,),
}
"""Every function that is called here, and its arguments; all return an error number."""


class CudaError(RuntimeError):
    """A call of CUDA's that failed."""


@functools.cache
def library() -> ctypes.CDLL:
    """The CUDA runtime.

    Raises:
        MissingError: there is none.
    """
    try:
        found = _find()
    except (ImportError, OSError):
        raise MissingError("there is no CUDA runtime (libcudart.so): pip install nvidia-cuda-runtime-cu11 for TensorRT "
                           "8, -cu12 for later versions") from None
    for name, arguments in FUNCTIONS.items():
        getattr(found, name).argtypes = arguments
    found.cudaGetErrorString.argtypes, found.cudaGetErrorString.restype = (c_int,), c_char_p
    return found


def call(name: str, *arguments: Any) -> None:
    """Call CUDA's function ``name``.

    Raises:
        MissingError: the GPU's memory is used up.
        CudaError: it failed for another reason.
    """
    status = getattr(library(), name)(*arguments)
    if status:
        library().cudaGetLastError()  # or the next call would be told of it again
        why = library().cudaGetErrorString(status).decode()
        if status == _OUT_OF_MEMORY:
            raise MissingError(f"the GPU's memory is used up ({name}: {why}): stop what else uses it")
        raise CudaError(f"{name}: {why}")


def runtime_version() -> str:
    """Of the CUDA runtime, such as ``"11.8"``."""
    version = c_int()
    call("cudaRuntimeGetVersion", byref(version))
    return cuda_version(version.value)


def free_bytes() -> int:
    """What is free of the GPU's memory."""
    free, total = c_size_t(), c_size_t()
    call("cudaMemGetInfo", byref(free), byref(total))
    return free.value


class Stream:
    """A stream of its own, which waits for no other."""

    def __init__(self) -> None:
        self.handle = _made("cudaStreamCreateWithFlags", 1)

    def synchronize(self) -> None:
        """Wait until all that was put into it is done."""
        call("cudaStreamSynchronize", self.handle)

    def begin_capture(self) -> None:
        """Record from now on what is put into it, instead of doing it."""
        call("cudaStreamBeginCapture", self.handle, _THREAD_LOCAL)

    def end_capture(self) -> Graph:
        """What was recorded. Raises CudaError where something in it cannot be."""
        recorded = c_void_p()
        call("cudaStreamEndCapture", self.handle, byref(recorded))
        try:
            return Graph(recorded)
        finally:
            call("cudaGraphDestroy", recorded)

    def close(self) -> None:
        """Let go of it."""
        call("cudaStreamDestroy", self.handle)


class Graph:
    """Work that was recorded once, to be done again by one call."""

    def __init__(self, recorded: c_void_p) -> None:
        self.handle = c_void_p()
        call("cudaGraphInstantiateWithFlags", byref(self.handle), recorded, 0)

    def launch(self, stream: Stream) -> None:
        """Put it into ``stream``."""
        call("cudaGraphLaunch", self.handle, stream.handle)

    def close(self) -> None:
        """Let go of it."""
        call("cudaGraphExecDestroy", self.handle)


class Event:
    """A point in a stream, to tell the time by."""

    def __init__(self) -> None:
        self.handle = _made("cudaEventCreate")

    def record(self, stream: Stream) -> None:
        """Put it into ``stream``."""
        call("cudaEventRecord", self.handle, stream.handle)

    def seconds_since(self, earlier: Event) -> float:
        """Between ``earlier`` and this, both passed."""
        milliseconds = c_float()
        call("cudaEventElapsedTime", byref(milliseconds), earlier.handle, self.handle)
        return milliseconds.value / 1000

    def close(self) -> None:
        """Let go of it."""
        call("cudaEventDestroy", self.handle)


class Buffer:
    """Memory of one tensor: pinned on the host, so that it is copied without a detour, and on the GPU."""

    def __init__(self) -> None:
        self.host, self.device = c_void_p(), c_void_p()
        self.host_bytes = self.device_bytes = 0

    def reserve(self, size: int) -> bool:
        """Have ``size`` bytes on both sides; whether its addresses changed."""
        host = self.reserve_host(size)
        return self.reserve_device(size) or host

    def reserve_host(self, size: int) -> bool:
        """Have ``size`` bytes of pinned memory; whether its address changed."""
        if self.host.value is not None and size <= self.host_bytes:
            return False
        self._free_host()
        self.host = _made("cudaHostAlloc", max(size, 1), 0)
        self.host_bytes = size
        return True

    def reserve_device(self, size: int) -> bool:
        """Have ``size`` bytes on the GPU; whether its address changed."""
        if self.device.value is not None and size <= self.device_bytes:
            return False
        self._free_device()
        self.device = _made("cudaMalloc", max(size, 1))
        self.device_bytes = size
        return True

    def view(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The pinned memory as an array; another request's numbers will be in it later."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not size:
            return np.empty(shape, dtype)
        raw = np.ctypeslib.as_array((c_uint8 * size).from_address(self.host.value or 0))
        seen: npt.NDArray[Any] = raw.view(dtype).reshape(shape)
        return seen

    def to_device(self, size: int, stream: Stream) -> None:
        """Copy ``size`` bytes to the GPU."""
        if size:
            call("cudaMemcpyAsync", self.device, self.host, size, _TO_DEVICE, stream.handle)

    def to_host(self, size: int, stream: Stream) -> None:
        """Copy ``size`` bytes from the GPU."""
        if size:
            call("cudaMemcpyAsync", self.host, self.device, size, _TO_HOST, stream.handle)

    def close(self) -> None:
        """Let go of both."""
        self._free_host()
        self._free_device()

    def _free_host(self) -> None:
        held, self.host, self.host_bytes = self.host, c_void_p(), 0
        if held.value is not None:
            call("cudaFreeHost", held)

    def _free_device(self) -> None:
        held, self.device, self.device_bytes = self.device, c_void_p(), 0
        if held.value is not None:
            call("cudaFree", held)


def _find() -> ctypes.CDLL:
    """The library of the wheel that was installed with TensorRT, which its driver can run, or the system's.

    Polygraphy looks at the system's first, which may be of a CUDA that is newer than the driver.
    """
    for package in ("nvidia.cuda_runtime", "nvidia.cu13"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder, "lib").glob("libcudart.so.*")):
                return ctypes.CDLL(str(file))
    from polygraphy import cuda
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            found: ctypes.CDLL = cuda.wrapper().handle
    except PolygraphyException as error:
        raise OSError(str(error)) from None
    return found


def _made(name: str, *arguments: Any) -> c_void_p:
    """What the function ``name`` makes and writes to where its first argument points."""
    handle = c_void_p()
    call(name, byref(handle), *arguments)
    return handle
