"""Build the engines of one signature on this machine's GPU, from its ONNX file and recipe alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trt_pipeline.engine import availability, cuda, failures, fit, inspect, network
from trt_pipeline.engine import flags as flag
from trt_pipeline.engine import timing_cache as kernel_times
from trt_pipeline.engine.availability import TensorRT
from trt_pipeline.engine.failures import Failure
from trt_pipeline.engine.fit import BuiltOn
from trt_pipeline.engine.flags import Flags
from trt_pipeline.engine.log import Message, collected, logger
from trt_pipeline.engine.network import Network
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.profiles import EngineProfile, as_json
from trt_pipeline.engine.recipe import BUILT_ON, GRAFT_PLAN, LAYERS, MODEL, PLAN, TIMING_CACHE, Recipe
from trt_pipeline.errors import InputError, MissingError, PipelineError, Unsupported
from trt_pipeline.frozen import Frozen

GRAFT_INPUT, GRAFT_OUTPUT = "TensorRTInputPH_{}", "TensorRTOutputPH_{}"
"""The names by which TensorFlow's TRTEngineOp finds the bindings, in the order of the op's inputs and outputs."""
# Less scratch than this saves nothing that matters.
_LEAST_WORKSPACE = 16 * 2**20
# Each takes as long as a build.
_MOST_ATTEMPTS = 6
_MADE = (PLAN, GRAFT_PLAN, BUILT_ON, LAYERS, *kernel_times.files(TIMING_CACHE))
_CACHE_REFUSED = ("timing cache will not be used", "Timing cache header mismatch")


class Built(Frozen):
    """What a build did."""

    built_on: BuiltOn
    profiles: list[dict[str, dict[str, list[int]]]]
    """As `engine.profiles.as_json` has them."""
    counts: dict[str, int]
    """Precision -> number of layers that compute in it."""
    workspace_bytes: int
    notes: tuple[str, ...] = ()
    """What was not done as it was asked, and why."""


def build(folder: Path, recipe: Recipe, profiles: Sequence[EngineProfile], target: Path, options: Options,
          timing_cache: Path | None = None, progress: Callable[[int, int], None] | None = None,
          inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Built:
    """Write the engines of the signature in ``folder``, and what is known of them, into the folder ``target``.

    Args:
        profiles: its optimization profiles (`profiles.make`); none where every input's shape is fixed.
        timing_cache: of an earlier build, to choose the same kernels again.
        inputs: the order in which TRTEngineOp is fed; the ONNX file's by default.
        outputs: the order of its outputs, likewise.

    Raises:
        MissingError: this machine lacks what a build takes, or memory.
        InputError: ``profiles`` do not fit the network.
        Unsupported: TensorRT or the GPU cannot take the model, or not as the recipe has it.
        PipelineError: the build failed, or the engine lacks the precision that was asked for.
    """
    here = availability.examine()
    if here.why_not_build:
        raise MissingError(here.why_not_build)
    flags = flag.of(recipe, here.version, options)
    flag.check_gpu(recipe, options, here.gpu, here.compute_capability)
    built_on = BuiltOn(gpu=here.gpu, compute_capability=here.compute_capability, tensorrt=here.version,
                       cuda=cuda.runtime_version(), driver=here.driver, hardware_compatible=options.hardware_compatible,
                       version_compatible=options.version_compatible)
    tell = progress or (lambda done, total: None)
    total = 1 + recipe.graft
    target.mkdir(parents=True, exist_ok=True)
    cache, note = kernel_times.read(timing_cache, built_on)
    # Of an earlier build, and perhaps the same files as another candidate's by hard link.
    for name in _MADE:
        (target / name).unlink(missing_ok=True)
    work = _Work(folder / MODEL, recipe, flags, list(profiles), options, here, [note] if note else [])
    tell(0, total)
    config = work.plan(target / PLAN, cache)
    kernel_times.write(config, target / TIMING_CACHE, built_on)
    layers = work.proven(target / PLAN)
    inspect.write(layers, target)
    served = as_json(work.profiles)
    tell(1, total)
    if recipe.graft:
        work.rename(inputs, outputs)
        work.plan(target / GRAFT_PLAN, (target / TIMING_CACHE).read_bytes())
        tell(2, total)
    fit.write(built_on, target)
    return Built(built_on=built_on, profiles=served, counts=layers.counts,
                 workspace_bytes=work.workspace, notes=tuple(work.notes))


def workspace_limit(options: Options, free_bytes: int) -> int:
    """What a layer may use for scratch: what the options say, and no more than is free."""
    asked = free_bytes if options.workspace_gb is None else int(options.workspace_gb * 2**30)
    return max(min(asked, free_bytes), 1)


def less(failure: Failure, flags: Flags, workspace: int, free_bytes: int) -> tuple[Flags, int, str] | None:
    """What to try after ``failure``: flags, workspace in bytes, and the note that says so; None where nothing is left.

    Out of memory, a smaller workspace leaves kernels out that need much. Where a layer needs more
    than the workspace it was allowed, it gets all there is. Where a layer that was fixed to float32 has no
    implementation there, it may have another precision.
    """
    if failure.cause == "memory" and workspace // 2 >= _LEAST_WORKSPACE:
        return flags, workspace // 2, f"{failure}: built with a workspace of {workspace // 2 / 2**30:.2f} GiB"
    if failure.cause == "workspace" and workspace < free_bytes:
        return flags, free_bytes, f"{failure}: built with a workspace of {free_bytes / 2**30:.2f} GiB"
    if failure.cause == "implementation" and flag.OBEY in flags.on:
        return flag.yielding(flags), workspace, f"{failure} in float32: built with one in another precision there"
    return None


def check_profiles(inputs: dict[str, tuple[int, ...]], profiles: Sequence[EngineProfile]) -> None:
    """Raise InputError where ``profiles`` are not profiles of a network with these ``inputs``."""
    dynamic = [name for name, shape in inputs.items() if -1 in shape]
    if dynamic and not profiles:
        raise InputError(f"input '{dynamic[0]}' has a free dimension, and no profile says how large it gets")
    for profile in profiles:
        unlike = sorted(profile.keys() ^ set(dynamic))
        if unlike:
            raise InputError(f"a profile {'has' if unlike[0] in profile else 'lacks'} '{unlike[0]}', and the inputs "
                             f"with free dimensions are {', '.join(dynamic) or 'none'}")


class _Work:
    """One signature's builds."""

    def __init__(self, file: Path, recipe: Recipe, flags: Flags, profiles: list[EngineProfile], options: Options,
                 here: TensorRT, notes: list[str]) -> None:
        self.tensorrt = availability.load()
        self.file, self.recipe, self.flags, self.here, self.notes = file, recipe, flags, here, notes
        self.parsed: Network = network.parse(file, flags)
        inputs = network.input_shapes(self.parsed)
        # A profile may know of inputs that the ONNX file has in a fixed shape.
        fixed = {name for name, shape in inputs.items() if -1 not in shape}
        free = ({name: extent for name, extent in profile.items() if name not in fixed} for profile in profiles)
        self.profiles = [profile for profile in free if profile]
        check_profiles(inputs, self.profiles)
        self.free = cuda.free_bytes()
        self.workspace = workspace_limit(options, self.free)
        self._fix_layers()

    def plan(self, file: Path, cache: bytes) -> Any:
        """Build an engine and write its plan to ``file``; returns the IBuilderConfig with its timing cache."""
        for _ in range(_MOST_ATTEMPTS):
            with collected() as messages:
                config = self._config(cache, messages)
                plan = self.parsed.builder.build_serialized_network(self.parsed.definition, config)
                if plan is not None:
                    file.write_bytes(memoryview(plan))
                    return config
                failure = failures.classify(messages)
            again = less(failure, self.flags, self.workspace, self.free)
            if again is None:
                break
            self.flags, self.workspace, note = again
            self.notes.append(note)
        raise self._refusal(failure)

    def proven(self, file: Path) -> inspect.Layers:
        """The layers of the plan, which are in the precision asked for."""
        with collected() as messages:
            runtime = self.tensorrt.Runtime(logger())
            if "VERSION_COMPATIBLE" in self.flags.on:
                runtime.engine_host_code_allowed = True
            engine = runtime.deserialize_cuda_engine(file.read_bytes())
            if engine is None:
                raise PipelineError(f"TensorRT {self.here.version} cannot load what it built: "
                                    f"{failures.classify(messages)}")
        layers = inspect.of(engine)
        inspect.check(layers, self.recipe)
        return layers

    def rename(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Give the bindings the names that TRTEngineOp looks for, in the order given."""
        known_inputs, known_outputs = network.edge_names(self.parsed)
        inputs, outputs = inputs or known_inputs, outputs or known_outputs
        new = {name: GRAFT_INPUT.format(place) for place, name in enumerate(inputs)}
        network.rename(self.parsed, inputs, outputs, list(new.values()),
                       [GRAFT_OUTPUT.format(place) for place in range(len(outputs))])
        self.profiles = [{new[name]: extent for name, extent in profile.items()} for profile in self.profiles]
        # TRTEngineOp does not allow a plan to bring code of its own.
        self.flags = self.flags.model_copy(update={
            "on": tuple(name for name in self.flags.on if name != "VERSION_COMPATIBLE")})

    def _fix_layers(self) -> None:
        if self.recipe.typed or not self.recipe.fp32_layers:
            return
        missing = network.keep_in_float32(self.parsed, self.recipe.fp32_layers)
        if missing:
            self.notes.append(f"{len(missing)} of {len(self.recipe.fp32_layers)} nodes that were to stay in float32 "
                              f"are no layers of the network, such as '{missing[0]}'")

    def _config(self, cache: bytes, messages: list[Message]) -> Any:
        from polygraphy.backend.trt import CreateConfig
        from polygraphy.logger import G_LOGGER

        limits = {self.tensorrt.MemoryPoolType.WORKSPACE: self.workspace}
        # Polygraphy asks a file for its mode, and makes a lock beside one that it opens itself.
        with tempfile.TemporaryFile() as kept, G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            kept.write(cache)
            # Without the network, for Polygraphy reads the names in profiles as patterns.
            config = CreateConfig(memory_pool_limits=limits, load_timing_cache=kept if cache else None,
                                  **flag.arguments(self.flags, self.tensorrt))(self.parsed.builder, None)
        flag.check_applied(self.flags, config, self.tensorrt)
        if cache and any(told in message.text for message in messages for told in _CACHE_REFUSED):
            self.notes.append("TensorRT did not take the timing cache, and it is left out")
        if config.get_timing_cache() is None:
            config.set_timing_cache(config.create_timing_cache(b""), False)
        for number, profile in enumerate(self.profiles):
            self._add(profile, number, config)
        return config

    def _add(self, profile: EngineProfile, number: int, config: Any) -> None:
        made = self.parsed.builder.create_optimization_profile()
        for name, extent in profile.items():
            made.set_shape(name, *extent)
        if config.add_optimization_profile(made) < 0:
            raise InputError(f"TensorRT {self.here.version} does not take profile {number}: "
                             f"{as_json([profile])[0]}")

    def _refusal(self, failure: Failure) -> Exception:
        who = f"TensorRT {self.here.version} on {self.here.gpu}"
        if failure.cause in ("memory", "workspace"):
            return MissingError(f"{who}: {failure}, with {self.free / 2**30:.1f} GiB free and a workspace of "
                                f"{self.workspace / 2**30:.2f} GiB: stop what else uses the GPU, or serve smaller "
                                "shapes")
        if failure.cause == "implementation":
            return Unsupported(f"{who}: {failure} in {self.recipe.precision}")
        return PipelineError(f"{who} built no engine: {failure}")
