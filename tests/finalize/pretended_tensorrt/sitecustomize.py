"""On PYTHONPATH, makes a worker believe that TensorRT has a GPU, besides what `tests/tftrt_shim/pretend` pretends.

Where a GPU would build an engine, the plan says for which profiles, and the one for TensorFlow is what the
shim takes for an engine; where it would run one, ONNX Runtime runs the file that it was to be built from.
Everything else that runs is the pipeline's own code.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TENSORRT = "8.5.3.1"


def _with_gpu(availability: Any) -> None:
    def examine() -> Any:
        return availability.TensorRT(version=TENSORRT, gpu="pretended", compute_capability="8.6", cuda="11.8")

    availability.examine = examine


def _with_builder(build: Any) -> None:
    from trt_pipeline.engine import recipe as names
    from trt_pipeline.engine.fit import BuiltOn
    from trt_pipeline.engine.profiles import as_json

    def built(folder: Path, recipe: Any, profiles: Sequence[Any], target: Path, options: Any, cache: Path | None,
              inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        known = as_json(profiles)
        (target / names.PLAN).write_text(json.dumps(known))
        if recipe.graft:
            (target / names.GRAFT_PLAN).write_bytes(_shim_engine(profiles, inputs))
        note = ["with known kernel times"] if cache and cache.exists() else []
        for file in build.kernel_times.files(names.TIMING_CACHE):
            (target / file).write_text("{}")
        on = BuiltOn(gpu="pretended", compute_capability="8.6", tensorrt=TENSORRT, cuda="11.8", driver="520")
        build.fit.write(on, target)
        return build.Built(built_on=on, profiles=known, counts={recipe.precision: 1}, workspace_bytes=1, notes=note)

    build.build = built


def _shim_engine(profiles: Sequence[Any], inputs: Sequence[str]) -> bytes:
    """For inputs that all have free dimensions."""
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    engine = attr_value_pb2.AttrValue()
    for profile in profiles:
        made = engine.list.func.add()
        for name in inputs:
            for end in ("min", "max"):
                shape = tf.TensorShape(getattr(profile[name], end))
                made.attr[end].list.shape.add().CopyFrom(shape.as_proto())
    return b"TRT-shim-engine" + bytes(engine.SerializeToString())


def _with_runner(backend: Any) -> None:
    def runner(plan: Path, narrowed: Any, *, cuda_graphs: bool) -> Any:
        assert json.loads(plan.read_text())
        return backend.OnnxCore(plan.with_name("model.onnx"), narrowed)

    backend.gpu_models = lambda: "pretended"
    backend.EngineRunner = runner


_spec = importlib.util.spec_from_file_location("tftrt_pretend", os.environ["TRT_SHIM_PRETENDING"])
assert _spec and _spec.loader
_shim = importlib.util.module_from_spec(_spec)
sys.modules["tftrt_pretend"] = _shim
_spec.loader.exec_module(_shim)
_shim._CHANGES.update({"trt_pipeline.engine.availability": _with_gpu, "trt_pipeline.engine.build": _with_builder,
                       "trt_pipeline.backends.tensorrt": _with_runner})
