"""Run a build over a simulated builder that fails as it is told to, under real bindings.

What is tried after which failure, and what lies beside the plan at the end, is checked here; a GPU does the
rest (test_engine_on_gpu). The simulation takes what the real classes take and no more.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.engine.bindings_main import Config
from trt_pipeline.engine import availability, build, cuda, generation
from trt_pipeline.engine.log import logger
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.profiles import Range
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.errors import InputError, MissingError, PipelineError, Unsupported

FREE = 2**30
OUT_OF_MEMORY = ("[virtualMemoryBuffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (Requested size was "
                 "16581132288 bytes.)")
NO_IMPLEMENTATION = ("10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any "
                     "implementation for node softmax.)")


class Named:
    """An object with the attributes given, each of which the real class has."""

    def __init__(self, real: Any, **attributes: Any) -> None:
        unknown = [name for name in attributes if not hasattr(real, name)]
        assert not unknown, unknown
        self.__dict__.update(attributes)


class Built(Config):
    """A configuration whose timing cache can be taken out again."""

    def get_timing_cache(self) -> Any:
        return Named(self._tensorrt.ITimingCache, serialize=lambda: b"times of " + self._cache)

    def create_timing_cache(self, cache: bytes) -> str:
        self.__dict__["_cache"] = bytes(cache)
        return "cache"


class Simulation:
    """Takes the place of what only a GPU makes; `failures` are what builds log and return nothing for."""

    def __init__(self, tensorrt: Any, failures: list[str], inspected: str) -> None:
        self.tensorrt, self.failures, self.inspected = tensorrt, failures, inspected
        self.tried: list[dict[str, Any]] = []
        tensor, layer = tensorrt.ITensor, tensorrt.ILayer
        self.tensors = [Named(tensor, name=name, shape=(-1, 8), dtype=tensorrt.float32, is_shape_tensor=False)
                        for name in ("b", "a")]
        self.outputs = [Named(tensor, name=name) for name in ("y", "z")]
        inside = [Named(tensor, dtype=tensorrt.float32), Named(tensor, dtype=tensorrt.int32)]
        self.fixed: list[Any] = []
        # An ILayer of 11 has neither, and there nothing may ask.
        old = {"precision": None, "set_output_type": lambda place, kind: self.fixed.append((place, str(kind)))} if \
            hasattr(layer, "precision") else {}
        self.layers = [Named(layer, name=name, num_outputs=2, get_output=inside.__getitem__, **old)
                       for name in ("matmul", "softmax")]

    def builder(self) -> Any:
        real_builder = self.tensorrt.Builder

        def config() -> Any:
            made = Built(self.tensorrt)
            made.__dict__.update(_tensorrt=self.tensorrt, _cache=b"")
            made.__dict__["add_optimization_profile"] = lambda profile: 0
            return made

        def profile() -> Any:
            return Named(self.tensorrt.IOptimizationProfile, set_shape=lambda name, low, usual, high: self.tried.append(
                {"profile": [name, low, usual, high]}))

        definition = Named(
            self.tensorrt.INetworkDefinition, num_inputs=2, num_outputs=2, num_layers=2,
            get_input=self.tensors.__getitem__, get_output=self.outputs.__getitem__, get_layer=self.layers.__getitem__)
        return Named(real_builder, create_network=lambda bits: definition, create_builder_config=config,
                     create_optimization_profile=profile, build_serialized_network=self.build)

    def build(self, network: Any, config: Any) -> bytes | None:
        self.tried.append({"on": sorted(config._on), "workspace": config._set["set_memory_pool_limit"][1],
                           "cache": config._cache.decode(),
                           "names": [one.name for one in (*self.tensors, *self.outputs)]})
        if not self.failures:
            return b"plan"
        logger().log(self.tensorrt.ILogger.ERROR, self.failures.pop(0))
        return None

    def run(self, recipe: Recipe, options: Options, folder: Path, cache: Path | None = None) -> dict[str, Any]:
        """Build, and tell what came of it."""
        real = {name: getattr(self.tensorrt, name) for name in ("Builder", "OnnxParser", "Runtime")}
        made = self.builder()
        parser = {"parse_from_file": lambda file: True, "num_errors": 0}
        inspector = Named(self.tensorrt.EngineInspector, get_engine_information=lambda form: self.inspected)
        engine = Named(self.tensorrt.ICudaEngine, create_engine_inspector=lambda: inspector)
        self.tensorrt.Builder = lambda logged: made
        self.tensorrt.OnnxParser = lambda network, logged: Named(real["OnnxParser"], **parser)
        self.tensorrt.Runtime = lambda logged: Named(real["Runtime"], deserialize_cuda_engine=lambda plan: engine)
        shapes = [{name: Range((1, 8), (2, 8), (4, 8)) for name in ("a", "b")}]
        # Finished before, elsewhere, and linked to from here.
        (folder / "elsewhere.plan").write_bytes(b"another's")
        (folder / "made").mkdir()
        for name in ("model.plan", "graft.plan"):
            (folder / "made" / name).hardlink_to(folder / "elsewhere.plan")
        try:
            done = build.build(folder, recipe, shapes, folder / "made", options, cache, inputs=("a", "b"),
                               outputs=("y", "z"))
            told: dict[str, Any] = {"notes": done.notes, "workspace": done.workspace_bytes, "counts": done.counts,
                                    "profiles": done.profiles}
        except (InputError, MissingError, PipelineError, Unsupported) as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        finally:
            for name, value in real.items():
                setattr(self.tensorrt, name, value)
        assert (folder / "elsewhere.plan").read_bytes() == b"another's"
        return {**told, "tried": self.tried, "fixed": self.fixed,
                "files": sorted(file.name for file in (folder / "made").iterdir())}


def main() -> None:
    tensorrt = availability.load()
    version = str(tensorrt.__version__)
    availability.examine = lambda: availability.TensorRT(  # type: ignore[assignment]
        version=version, gpu="NVIDIA A10", compute_capability="8.6", driver="535", cuda="12.2")
    cuda.runtime_version, cuda.free_bytes = (lambda: "11.8"), (lambda: FREE)  # type: ignore[assignment]
    tensorrt.init_libnvinfer_plugins = lambda logged, name: True
    half, single = (json.dumps({"Layers": [{"Name": "softmax", "Inputs": [{"Format/Datatype": kind}]}]})
                    for kind in ("Row major linear FP16 format", "Row major linear FP32"))
    recipe = Recipe(precision="fp16", tensorrt=version, typed=generation.typed(generation.parse_version(version)),
                    fp32_layers=("softmax", "gone"), graft=True)
    plain = recipe.model_copy(update={"graft": False, "fp32_layers": ()})
    many = [OUT_OF_MEMORY] * 20
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, chosen, failures, inspected in (
                ("well", recipe, [], half),
                ("retried", recipe, [OUT_OF_MEMORY, OUT_OF_MEMORY, NO_IMPLEMENTATION], half),
                ("full", plain, many, half), ("impossible", plain, [NO_IMPLEMENTATION], half),
                ("higher", plain, [], single)):
            folder = Path(scratch, name)
            folder.mkdir()
            made[name] = Simulation(tensorrt, list(failures), inspected).run(chosen, Options(workspace_gb=0.5), folder)
        cache = Path(scratch, "well", "made", "timing.cache")
        for name in ("again", "elsewhere"):
            if name == "elsewhere":
                key = cache.with_name("timing.cache.json")
                key.write_text(key.read_text().replace("A10", "A100"))
            folder = Path(scratch, name)
            folder.mkdir()
            made[name] = Simulation(tensorrt, [], half).run(plain, Options(), folder, cache)
    print(json.dumps(made), file=sys.stdout)


if __name__ == "__main__":
    main()
