"""Run an engine: pinned memory, a stream of its own, the profile that fits, and CUDA graphs where they are wanted.

Not Polygraphy's TrtRunner, which says itself that it is not for production: it copies through pageable
memory, and leaves the profile to its caller.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trt_pipeline.engine import availability, fit, generation, narrowing, profiles
from trt_pipeline.engine.cuda import Buffer, CudaError, Event, Graph, Stream
from trt_pipeline.engine.failures import last_words, plain
from trt_pipeline.engine.log import Message, collected, logger
from trt_pipeline.engine.profiles import EngineProfile, Range, Shape
from trt_pipeline.errors import InputError, MissingError, PipelineError

Array = npt.NDArray[Any]

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool",
          "UINT8": "uint8"}
"""TensorRT's name of a type -> numpy's; of bfloat16 numpy has none, and no model's inputs and outputs are."""
# From here on contexts may share a profile, so that each shape can have a recording of its own.
_PROFILES_ARE_SHARED = (10, 0)
# Each recording has a context, and each context memory for what is between its layers.
_MOST_RECORDINGS = 8


class Timing(NamedTuple):
    """Where the time of one request went, in seconds, and what was copied."""

    to_device: float
    execution: float
    to_host: float
    bytes_to_device: int
    bytes_to_host: int


class EngineRunner:
    """A plan, loaded; a context manager. Not for several threads at once.

    Args:
        plan: the engine's file; where `fit.BuiltOn` lies beside it, it is asked whether the engine fits here.
        narrowed: input or output -> its own dtype, where the engine has int32 (`recipe.Recipe.narrowed`).
        cuda_graphs: record what is done for each shape, and replay it; shapes change the fewer the better.
        timed: keep `timing` of the last request.
    """

    def __init__(self, plan: Path, narrowed: Mapping[str, str] | None = None, *, cuda_graphs: bool = False,
                 timed: bool = False) -> None:
        self.plan, self.narrowed = plan, dict(narrowed or {})
        self.cuda_graphs, self.timed = cuda_graphs, timed
        self.timing: Timing | None = None
        self.profiles: list[EngineProfile] = []
        self.inputs: dict[str, str] = {}
        """Input -> numpy dtype that the engine has."""
        self.outputs: dict[str, str] = {}
        self._engine: Any = None
        self._states: dict[tuple[Any, ...], _State] = {}
        self._buffers: dict[str, Buffer] = {}

    def __enter__(self) -> EngineRunner:
        self.activate()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.deactivate()

    def activate(self) -> None:
        """Load the plan.

        Raises:
            MissingError: this machine lacks what it takes, or is not one that the engine fits.
            InputError: the file is no plan.
        """
        self._tensorrt = availability.load()
        # The runtime must outlive the engine.
        self._runtime, self._engine = _load(self.plan)
        try:
            self._prepare()
        except BaseException:
            self._engine = self._runtime = None
            raise

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for one batch of inputs by name; transfers to and from the GPU are part of it.

        Raises:
            InputError: an input is missing, has another dtype, or a shape that the engine was not built for.
            PipelineError: TensorRT failed.
        """
        if self._engine is None:
            raise RuntimeError("activate the runner first: use it in a with statement")
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise InputError(f"input '{missing[0]}' is missing; the engine takes {', '.join(self.inputs)}")
        arrays = {name: narrowing.fed(name, np.asarray(feeds[name]), dtype) for name, dtype in self.inputs.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        place = profiles.choose(self.profiles, shapes) if self.profiles else 0
        if place < 0:
            raise InputError(profiles.outside(self.profiles, shapes))
        with collected() as messages:
            state = self._state(place, shapes)
            for name, array in arrays.items():
                self._reserve(name, array.nbytes)
                np.copyto(self._buffers[name].view(array.shape, array.dtype), array)
            try:
                made = self._run(state, shapes)
            except (CudaError, _Refused) as error:
                # What its context was told is not what we remember.
                self._forget(lambda known: self._states[known] is state)
                raise PipelineError(f"{self.plan.name} failed: {error}; {_why(messages)}") from None
        return {name: narrowing.answered(value, self.narrowed.get(name)) for name, value in made.items()}

    def deactivate(self) -> None:
        """Let go of everything; a runner that is not active stays so."""
        if self._engine is None:
            return
        # After an error on the GPU every call fails, and the first failure is the one to be told.
        with contextlib.suppress(CudaError):
            self._stream.synchronize()
            self._forget(lambda _: True)
            for buffer in self._buffers.values():
                buffer.close()
            for event in self._events:
                event.close()
            self._stream.close()
        self._states = {}
        self._buffers = {}
        self._engine = self._runtime = None

    def _prepare(self) -> None:
        self._host = {name for name in self._names()
                      if self._engine.get_tensor_location(name) == self._tensorrt.TensorLocation.HOST}
        kinds = {name: self._engine.get_tensor_mode(name) for name in self._names()}
        types = {name: self._dtype(name) for name in kinds}
        self.inputs = {name: types[name] for name, kind in kinds.items() if kind == self._tensorrt.TensorIOMode.INPUT}
        self.outputs = {name: types[name] for name in kinds if name not in self.inputs}
        self.profiles = profiles_of(self._engine, list(self.inputs))
        self._shared = generation.parse_version(str(self._tensorrt.__version__)) >= _PROFILES_ARE_SHARED
        self._stream = Stream()
        self._events = [Event() for _ in range(4)] if self.timed else []
        self._buffers = {name: Buffer() for name in kinds}
        self._records = self.cuda_graphs and not self._host

    def _run(self, state: _State, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        self._bind_inputs(state, shapes)
        self._bind_outputs(state)
        if state.graph is not None:
            self._mark(0, 1, 2)
            state.graph.launch(self._stream)
            self._mark(3)
        else:
            self._enqueue(state)
        self._stream.synchronize()
        self._tell_time(state)
        made = {name: self._buffers[name].view(state.output_shapes[name], dtype).copy()
                for name, dtype in self.outputs.items()}
        # Once it ran, for TensorRT does some things at the first run of a shape that cannot be recorded.
        if self._records and state.graph is None and not state.allocator:
            self._record(state)
        return made

    def _bind_inputs(self, state: _State, shapes: Mapping[str, Shape]) -> None:
        """Tell the context what it does not know yet of the inputs."""
        if state.shapes != shapes:
            state.shapes, state.addresses = dict(shapes), {}
            for name, shape in shapes.items():
                _accepted(state.context.set_input_shape(name, shape), f"shape {list(shape)} of '{name}'")
        for name in self.inputs:
            self._address(state, name)

    def _bind_outputs(self, state: _State) -> None:
        """Learn the outputs' shapes, where they may have changed, and tell the context where to write them."""
        if self._host or not state.addresses.keys() >= self.outputs.keys():
            _accepted(not state.context.infer_shapes(), "the inputs' shapes together")
            state.output_shapes = {name: tuple(state.context.get_tensor_shape(name)) for name in self.outputs}
            unknown = [name for name, shape in state.output_shapes.items() if -1 in shape]
            state.allocator = _allocator(self._buffers, state.output_shapes) if unknown else None
            for name in unknown:
                _accepted(state.context.set_output_allocator(name, state.allocator), f"memory for '{name}'")
        for name, shape in state.output_shapes.items():
            if -1 not in shape:
                self._reserve(name, _bytes(shape, self.outputs[name]))
                self._address(state, name)

    def _enqueue(self, state: _State) -> None:
        self._mark(0)
        for name in self.inputs:
            if name not in self._host:
                self._buffers[name].to_device(_bytes(state.shapes[name], self.inputs[name]), self._stream)
        self._mark(1)
        _accepted(state.context.execute_async_v3(self._stream.handle.value), "the execution")
        self._mark(2)
        for name, shape in state.output_shapes.items():
            if name not in self._host:
                size = _bytes(shape, self.outputs[name])
                self._buffers[name].reserve_host(size)
                self._buffers[name].to_host(size, self._stream)
        self._mark(3)

    def _record(self, state: _State) -> None:
        """Keep what `_enqueue` does as a graph; where it cannot be, all goes on without."""
        marks, self._events = self._events, []
        try:
            self._stream.begin_capture()
            try:
                self._enqueue(state)
            finally:
                state.graph = self._stream.end_capture()
        except (CudaError, _Refused):
            self._records = False
            state.drop_graph()
        finally:
            self._events = marks

    def _address(self, state: _State, name: str) -> None:
        buffer = self._buffers[name]
        wanted = (buffer.host if name in self._host else buffer.device).value or 0
        if state.addresses.get(name) != wanted:
            _accepted(state.context.set_tensor_address(name, wanted), f"the address of '{name}'")
            state.addresses[name] = wanted

    def _reserve(self, name: str, size: int) -> None:
        """Room for a tensor; a recording that knows the old address is of no more use."""
        if self._buffers[name].reserve(size):
            for state in self._states.values():
                state.drop_graph()

    def _state(self, place: int, shapes: Mapping[str, Shape]) -> _State:
        """The context for a profile, and where there are recordings, for these shapes: one must not see others."""
        key = (place, *sorted(shapes.items())) if self._records else (place,)
        found = self._states.pop(key, None)
        if found is None:
            if not self._shared:
                self._forget(lambda known: known[0] == place)
            while len(self._states) >= _MOST_RECORDINGS:
                oldest = next(iter(self._states))
                self._forget(lambda known, oldest=oldest: known == oldest)
            context = self._engine.create_execution_context()
            if context is None or (self.profiles and not context.set_optimization_profile_async(
                    place, self._stream.handle.value)):
                raise PipelineError(f"{self.plan.name}: no execution context: the GPU's memory may be used up")
            self._stream.synchronize()
            found = _State(context)
        self._states[key] = found  # the last used is last
        return found

    def _forget(self, chosen: Any) -> None:
        for key in [known for known in self._states if chosen(known)]:
            self._states.pop(key).drop_graph()

    def _mark(self, *numbers: int) -> None:
        for number in numbers:
            if self._events:
                self._events[number].record(self._stream)

    def _tell_time(self, state: _State) -> None:
        if self._events:
            spans = [after.seconds_since(before) for before, after in zip(self._events, self._events[1:], strict=False)]
            # A recording is one piece, and so is its time.
            spans = [0.0, spans[2], 0.0] if state.graph is not None else spans
            self.timing = Timing(spans[0], spans[1], spans[2],
                                 sum(_bytes(shape, self.inputs[name]) for name, shape in state.shapes.items()),
                                 sum(_bytes(shape, self.outputs[name]) for name, shape in state.output_shapes.items()))

    def _names(self) -> list[str]:
        return [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]

    def _dtype(self, name: str) -> str:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise InputError(f"{self.plan.name} has '{name}' in {kind}, which numpy has not")
        return DTYPES[kind]


class _Refused(Exception):
    """TensorRT said no; its log has the reason."""


def _accepted(done: bool, what: str) -> None:
    if not done:
        raise _Refused(f"TensorRT refuses {what}")


class _State:
    """An execution context, and what it was told."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.shapes: dict[str, Shape] = {}
        self.output_shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.allocator: Any = None
        self.graph: Graph | None = None

    def drop_graph(self) -> None:
        if self.graph is not None:
            self.graph.close()
            self.graph = None


def profiles_of(engine: Any, names: Sequence[str]) -> list[EngineProfile]:
    """The profiles of an ICudaEngine for its inputs ``names``; none where all their shapes are fixed."""
    dynamic = [name for name in names if -1 in tuple(engine.get_tensor_shape(name))]
    return [{name: Range(*map(tuple, engine.get_tensor_profile_shape(name, place))) for name in dynamic}
            for place in range(engine.num_optimization_profiles)] if dynamic else []


def _load(plan: Path) -> tuple[Any, Any]:
    tensorrt = availability.load()
    built_on = fit.read(plan.parent)
    if built_on:
        here = availability.examine()
        if why := fit.differences(built_on, here):
            raise MissingError(f"{plan}: {why}")
        if slower := fit.remark(built_on, here):
            print(f"{plan}: {slower}", file=sys.stderr)
    with collected() as messages:
        try:
            runtime = tensorrt.Runtime(logger())
        except TypeError:
            raise MissingError(f"TensorRT {tensorrt.__version__} cannot start: {last_words(messages)}") from None
        if built_on and built_on.version_compatible:
            # Such a plan has a runtime of its own in it, which is run as it is: it is one that we built.
            runtime.engine_host_code_allowed = True
        tensorrt.init_libnvinfer_plugins(logger(), "")
        try:
            with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
                engine = runtime.deserialize_cuda_engine(body)
        except (OSError, ValueError) as error:
            raise InputError(f"{plan} cannot be read: {error}") from None
        if engine is None:
            raise MissingError(f"TensorRT {tensorrt.__version__} cannot load {plan}: {_why(messages)}; build it again "
                               "here: trt-pipeline finalize CANDIDATE")
    return runtime, engine


def _allocator(buffers: Mapping[str, Buffer], shapes: dict[str, Shape]) -> Any:
    """Memory for outputs whose shape only the values decide."""
    tensorrt = availability.load()

    class Allocator(tensorrt.IOutputAllocator):  # type: ignore[misc, name-defined]
        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            buffers[name].reserve_device(size)
            return buffers[name].device.value or 0

        # The name since 10.
        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            shapes[name] = tuple(shape)

    return Allocator()


def _bytes(shape: Shape, dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _why(messages: Sequence[Message]) -> str:
    return "; ".join(plain(message.text) for message in messages if message.is_error)[:300] or "it gives no reason"
