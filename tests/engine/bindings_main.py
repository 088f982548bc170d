"""Run under an interpreter with TensorRT's bindings: tells what they have, and what Polygraphy does with our flags.

Prints one JSON document. Every module of trt_pipeline.engine is imported first, so that one that needs
more than an engine's interpreter has is found here.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from typing import Any

import trt_pipeline.engine
from trt_pipeline.engine import availability, cuda, flags, generation
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.errors import MissingError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")


class Config:
    """Takes what a real IBuilderConfig takes, which only a GPU makes, and no more; remembers its flags."""

    def __init__(self, tensorrt: Any) -> None:
        self.__dict__.update(_real=tensorrt.IBuilderConfig, _on={"TF32"}, _set={})

    def __getattr__(self, name: str) -> Any:
        getattr(self._real, name)
        changes = {"set_flag": lambda flag: self._on.add(flag.name), "get_flag": lambda flag: flag.name in self._on,
                   "clear_flag": lambda flag: self._on.discard(flag.name)}
        return changes.get(name, lambda *given, **named: self._set.__setitem__(name, list(map(str, given))) or "made")

    def __setattr__(self, name: str, value: Any) -> None:
        assert inspect.isdatadescriptor(getattr(self._real, name)), name
        self._set[name] = str(value)


class Builder:
    def __init__(self, tensorrt: Any) -> None:
        self.tensorrt = tensorrt

    def create_builder_config(self) -> Config:
        return Config(self.tensorrt)


def configured(tensorrt: Any) -> dict[str, Any]:
    """Precision -> what its flags come to in this version, with and without options; or why not."""
    from polygraphy.backend.trt import CreateConfig
    from polygraphy.logger import G_LOGGER

    version, made = str(tensorrt.__version__), {}
    number = generation.parse_version(version)
    for precision in PRECISIONS:
        for name, options in (("plain", Options()), ("compatible", Options(
                hardware_compatible=True, version_compatible=True, builder_optimization_level=5))):
            recipe = Recipe(precision=precision, tensorrt=version, typed=generation.typed(number), fp32_layers=("a",))
            try:
                asked = flags.of(recipe, version, options)
            except Exception as error:
                made[f"{precision} {name}"] = str(error)
                continue
            with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
                config = CreateConfig(memory_pool_limits={tensorrt.MemoryPoolType.WORKSPACE: 1},
                                      **flags.arguments(asked, tensorrt))(Builder(tensorrt), None)
            flags.check_applied(asked, config, tensorrt)
            made[f"{precision} {name}"] = {"on": sorted(config._on), "set": config._set, "network": asked.network,
                                           "bits": flags.network_bits(asked, tensorrt)}
    return made


def failing_to_start() -> str:
    """What parsing says where TensorRT finds no GPU."""
    from pathlib import Path

    from trt_pipeline.engine import network

    try:
        network.parse(Path("model.onnx"), flags.Flags())
    except MissingError as error:
        return str(error)
    return ""


def main() -> None:
    for module in pkgutil.iter_modules(trt_pipeline.engine.__path__):
        importlib.import_module(f"trt_pipeline.engine.{module.name}")
    tensorrt = availability.load()
    classes = {name: {key: str(getattr(value, key).__doc__) for key in dir(value)}
               for name, value in vars(tensorrt).items() if isinstance(value, type)}
    library = cuda.library()
    print(json.dumps({
        "availability": availability.examine().model_dump(mode="json"), "classes": classes,
        "names": dir(tensorrt), "members": {name: list(value.__members__) for name, value in vars(tensorrt).items()
                                            if hasattr(value, "__members__")},
        "configured": configured(tensorrt), "start": failing_to_start(), "cuda": library._name,
        "functions": [name for name in cuda.FUNCTIONS if hasattr(library, name)],
        "foreign": sorted({"tensorflow", "onnx", "psutil", "yaml"} & set(sys.modules))}))


if __name__ == "__main__":
    main()
