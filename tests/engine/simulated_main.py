"""Run the runner over an engine in numpy, and memory of the host in the GPU's place, under real bindings.

What the runner tells TensorRT and CUDA, and when, is checked here; a GPU does the rest (test_engine_on_gpu).
The simulation takes what the real classes take and no more, and fails where memory is used that was freed,
where a recording is replayed by a context that was changed, or where two contexts hold one profile in 8.
"""

from __future__ import annotations

import ctypes
import json
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trt_pipeline.engine import availability, cuda, fit, runner
from trt_pipeline.engine.runner import EngineRunner
from trt_pipeline.errors import InputError, MissingError, PipelineError

PROFILES = [((1, 1), (4, 4), (8, 16)), ((1, 1), (1, 4), (1, 16))]


class Memory:
    """The functions of the CUDA runtime that are called."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launches = self.recorded = 0
        self.refuse_capture = False

    def at(self, address: Any, size: int) -> int:
        start = getattr(address, "value", address)
        assert start in self.held, "memory that was freed"
        assert size <= ctypes.sizeof(self.held[start]), "memory that is too small"
        return int(start)

    def do(self, work: Callable[[], None]) -> int:
        if self.recording is None:
            work()
        else:
            self.recording.append(work)
        return 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        assert name in cuda.FUNCTIONS, name
        return lambda *given: 0

    def _new(self, where: Any, size: int) -> int:
        body = ctypes.create_string_buffer(size)
        where._obj.value = ctypes.addressof(body)
        self.held[where._obj.value] = body
        return 0

    def cudaHostAlloc(self, where: Any, size: int, flags: int) -> int:
        return self._new(where, size)

    def cudaMalloc(self, where: Any, size: int) -> int:
        assert self.recording is None, "memory while recording"
        return self._new(where, size)

    def cudaFree(self, address: Any) -> int:
        del self.held[address.value]
        return 0

    def cudaFreeHost(self, address: Any) -> int:
        return self.cudaFree(address)

    def cudaMemcpyAsync(self, target: Any, source: Any, size: int, kind: int, stream: Any) -> int:
        pair = target.value, source.value
        return self.do(lambda: ctypes.memmove(self.at(pair[0], size), self.at(pair[1], size), size) and None)

    def cudaStreamBeginCapture(self, stream: Any, mode: int) -> int:
        self.recording = []
        return 0

    def cudaStreamEndCapture(self, stream: Any, where: Any) -> int:
        made, self.recording = self.recording or [], None
        if self.refuse_capture:
            return 901
        self.recorded += 1
        where._obj.value = self.recorded
        self.graphs[self.recorded] = made
        return 0

    def cudaGetErrorString(self, status: int) -> bytes:
        return b"operation failed due to a previous error during capture"

    def cudaGraphInstantiateWithFlags(self, where: Any, recorded: Any, flags: int) -> int:
        where._obj.value = recorded.value
        return 0

    def cudaGraphExecDestroy(self, graph: Any) -> int:
        del self.graphs[graph.value]
        return 0

    def cudaGraphLaunch(self, graph: Any, stream: Any) -> int:
        self.launches += 1
        for work in self.graphs[graph.value]:
            work()
        return 0


class Engine:
    """y = 2 x; n = ids + 1; where it has `picked`, those of ids that are not 0, however many."""

    num_optimization_profiles = len(PROFILES)

    def __init__(self, tensorrt: Any, memory: Memory, picks: bool, shares: bool) -> None:
        self.tensorrt, self.memory, self.shares = tensorrt, memory, shares
        self.types = {"x": "float32", "ids": "int32", "y": "float32", "n": "int32"} | (
            {"picked": "int32"} if picks else {})
        self.contexts: list[Any] = []
        self.made = 0

    num_io_tensors = property(lambda self: len(self.types))

    def get_tensor_name(self, place: int) -> str:
        return list(self.types)[place]

    def get_tensor_location(self, name: str) -> Any:
        return self.tensorrt.TensorLocation.DEVICE

    def get_tensor_mode(self, name: str) -> Any:
        return getattr(self.tensorrt.TensorIOMode, "INPUT" if name in ("x", "ids") else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self.tensorrt.DataType, "FLOAT" if self.types[name] == "float32" else "INT32")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, -1)

    def get_tensor_profile_shape(self, name: str, place: int) -> list[tuple[int, ...]]:
        return list(PROFILES[place])

    def create_execution_context(self) -> Context:
        made = Context(self)
        self.contexts.append(weakref.ref(made))
        self.made += 1
        return made


class Context:
    """Of `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}

    def set_optimization_profile_async(self, place: int, stream: int) -> bool:
        others = [one() for one in self.engine.contexts if one() not in (None, self)]
        if not self.engine.shares and any(one.profile == place for one in others):
            return False
        self.profile = place
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = PROFILES[self.profile]
        self.shapes[name] = tuple(shape)
        return shape[0] != 3 and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"y": self.shapes["x"], "n": self.shapes["ids"], "picked": (-1,)}[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address
        self.addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        assert isinstance(allocator, self.engine.tensorrt.IOutputAllocator)
        self.allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        told = dict(self.shapes), dict(self.addresses)

        def work() -> None:
            assert told == (self.shapes, self.addresses), "the context was changed since it was recorded"
            x, ids = self._see("x"), self._see("ids")
            self._see("y")[...] = 2 * x
            self._see("n")[...] = ids + 1
            if "picked" in self.engine.types:
                picked, allocator = ids[ids != 0], self.allocators["picked"]
                later = hasattr(self.engine.tensorrt.IBuilderConfig, "hardware_compatibility_level")
                address = allocator.reallocate_output_async("picked", 0, picked.nbytes, 256, 0) if later else \
                    allocator.reallocate_output("picked", 0, picked.nbytes, 256)
                allocator.notify_shape("picked", picked.shape)
                ctypes.memmove(self.engine.memory.at(address, picked.nbytes), picked.tobytes(), picked.nbytes)

        return self.engine.memory.do(work) == 0

    def _see(self, name: str) -> Any:
        shape = self.shapes[{"y": "x", "n": "ids"}.get(name, name)]
        dtype = np.dtype(self.engine.types[name])
        size = int(np.prod(shape)) * dtype.itemsize
        body = (ctypes.c_uint8 * size).from_address(self.engine.memory.at(self.addresses[name], size))
        return np.ctypeslib.as_array(body).view(dtype).reshape(shape)


def check_real(tensorrt: Any) -> None:
    """The simulation has nothing that the real classes have not."""
    for simulated, real in ((Engine, tensorrt.ICudaEngine), (Context, tensorrt.IExecutionContext)):
        own = {name for name in vars(simulated) if not name.startswith("_")}
        assert own <= set(dir(real)), own - set(dir(real))


def asked(made: EngineRunner, *shape: int) -> None:
    """One request, and its answer."""
    x = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    ids = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape) % 3
    found = made.infer({"x": x[::1], "ids": ids})
    np.testing.assert_array_equal(found["y"], 2 * x)
    np.testing.assert_array_equal(found["n"], ids + 1)
    assert (found["n"].dtype, found["y"].dtype) == (np.int64, np.float32)
    if "picked" in found:
        np.testing.assert_array_equal(found["picked"], ids[ids != 0])


def scenario(tensorrt: Any, *, picks: bool = False, graphs: bool = False, refuse: bool = False) -> dict[str, Any]:
    memory = Memory()
    memory.refuse_capture = refuse
    engine = Engine(tensorrt, memory, picks, shares=not tensorrt.__version__.startswith("8."))
    cuda.library = lambda: memory  # type: ignore[assignment, return-value]
    runner._load = lambda plan: (None, engine)
    with EngineRunner(Path("model.plan"), {"n": "int64"}, cuda_graphs=graphs, timed=not graphs) as made:
        for shape in ((1, 3), (4, 4), (4, 4), (8, 16), (1, 3), (1, 3), (4, 4), (4, 4), (4, 4)):
            asked(made, *shape)
        timed = made.timing._asdict() if made.timing else {}
        contexts, refused = engine.made, []
        for feeds in ({"x": np.zeros((9, 1), np.float32), "ids": np.zeros((9, 1), np.int32)},
                      {"x": np.zeros((1, 1), np.float32)},
                      {"x": np.zeros((1, 1), np.float32), "ids": np.full((1, 1), 2**40)},
                      *[{"x": np.zeros((3, 1), np.float32), "ids": np.zeros((3, 1), np.int32)}] * 2):
            try:
                made.infer(feeds)
            except (InputError, PipelineError) as error:
                refused.append(str(error))
        held = len(memory.held)
    alive = sum(one() is not None for one in engine.contexts)
    return {"launches": memory.launches, "contexts": contexts, "held": held, "alive": alive, "refused": refused,
            "leaked": len(memory.held) + len(memory.graphs), "timing": timed}


def loading(folder: Path) -> list[str]:
    """What loading a plan says here: one that was built elsewhere, and one that does not say where."""
    said = []
    elsewhere = fit.BuiltOn(gpu="NVIDIA A10", compute_capability="8.6", tensorrt="10.3.0", cuda="12.6", driver="560")
    for built_on in (elsewhere, None):
        (folder / "model.plan").write_bytes(b"no plan")
        if built_on:
            fit.write(built_on, folder)
        else:
            (folder / "built_on.json").unlink()
        try:
            EngineRunner(folder / "model.plan").activate()
        except MissingError as error:
            said.append(str(error))
    return said


def main() -> None:
    tensorrt = availability.load()
    check_real(tensorrt)
    with tempfile.TemporaryDirectory() as folder:
        loaded = loading(Path(folder))
    print(json.dumps({
        "loading": loaded, "plain": scenario(tensorrt), "graphs": scenario(tensorrt, graphs=True),
        "picks": scenario(tensorrt, picks=True, graphs=True), "refused": scenario(tensorrt, graphs=True, refuse=True)}))


if __name__ == "__main__":
    main()
