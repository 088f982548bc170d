"""Build and run engines on a GPU, in an interpreter with TensorRT; one step a process, told and answering in JSON.

    on_gpu_main build FOLDER TARGET '{"recipe": ..., "profiles": ..., "options": ..., "cache": ..., "leave": BYTES}'
    on_gpu_main infer PLAN FEEDS.npz OUTPUTS.npz '{"narrowed": ..., "graphs": ..., "times": 3}'
"""

from __future__ import annotations

import json
import sys
from ctypes import byref, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from trt_pipeline.engine import build, cuda, profiles
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.engine.runner import EngineRunner
from trt_pipeline.errors import InputError, PipelineError, Unsupported


def occupy(leave: int) -> None:
    """Take the GPU's memory but for ``leave`` bytes, for as long as the process lives."""
    cuda.call("cudaMalloc", byref(c_void_p()), cuda.free_bytes() - leave)


def build_one(folder: str, target: str, told: dict[str, Any]) -> dict[str, Any]:
    if "leave" in told:
        occupy(told["leave"])
    shapes, options = profiles.from_json(told.get("profiles", [])), Options.model_validate(told.get("options", {}))
    done = build.build(Path(folder), Recipe.model_validate(told["recipe"]), shapes, Path(target), options,
                       Path(told["cache"]) if "cache" in told else None)
    return done.model_dump(mode="json")


def infer(plan: str, feeds: str, outputs: str, told: dict[str, Any]) -> dict[str, Any]:
    """Every request in ``feeds``, whose arrays are named NUMBER/INPUT, ``times`` over."""
    given: dict[int, dict[str, Any]] = {}
    for key, value in np.load(feeds).items():
        number, _, name = key.partition("/")
        given.setdefault(int(number), {})[name] = value
    made: dict[str, Any] = {}
    graphs = told.get("graphs", False)
    with EngineRunner(Path(plan), told.get("narrowed"), cuda_graphs=graphs, timed=True) as runner:
        for _ in range(told.get("times", 1)):
            for number, one in given.items():
                made |= {f"{number}/{name}": value for name, value in runner.infer(one).items()}
        states = runner._states.values()
        facts = {"inputs": runner.inputs, "outputs": runner.outputs, "timing": runner.timing,
                 "graphs": sum(state.graph is not None for state in states), "profiles": len(runner.profiles)}
    np.savez(outputs, **made)
    return facts


def main() -> None:
    step, *arguments, told = sys.argv[1:]
    try:
        answer = {"build": build_one, "infer": infer}[step](*arguments, json.loads(told))
    except (InputError, PipelineError, Unsupported) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
