"""Tiny models for the TF-TRT tests: as graphs, as SavedModels, and as what stands in for a converted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.calibrated import calibrated
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, ConversionRequest
from trt_pipeline.conversion.tftrt import stand_in
from trt_pipeline.model import saved_model

Array = np.ndarray
Outputs = dict[str, Array]


class Graph:
    """A traced function as a GraphDef, and the names of its inputs and outputs."""

    def __init__(self, call: Callable[..., Any], *specs: tf.TensorSpec) -> None:
        traced = tf.function(call, input_signature=list(specs), autograph=False).get_concrete_function()
        self.graph_def = traced.graph.as_graph_def()
        self.inputs = [tensor.name for tensor in traced.inputs]
        self.outputs = [tensor.name for tensor in traced.outputs]

    def run(self, *values: Array, graph_def: Any = None) -> list[Array]:
        """What the graph, or ``graph_def`` in its place, answers."""
        return run(graph_def or self.graph_def, dict(zip(self.inputs, values, strict=True)), self.outputs)


def run(graph_def: Any, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(list(outputs), feeds)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def variable(*shape: int, seed: int = 0, scale: float = 0.3) -> tf.Variable:
    return tf.Variable(numbers(*shape, seed=seed, scale=scale))


def floats(*shape: int | None, name: str = "x") -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32, name)


def save(folder: Path, module: tf.Module, **calls: tuple[Callable[..., Any], list[tf.TensorSpec]]) -> Path:
    """A SavedModel whose signatures are ``calls``: name -> function and what it takes."""
    signatures = {name: tf.function(call, input_signature=specs, autograph=False)
                  for name, (call, specs) in calls.items()}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def signature(model: Path, name: str = "serving_default") -> Any:
    """A signature of ``model``, which it keeps alive."""
    loaded = tf.saved_model.load(str(model), tags=["serve"])
    function = loaded.signatures[name]
    function.kept_alive = loaded
    return function


def answers(model: Path, name: str = "serving_default", **feeds: Any) -> Outputs:
    found = signature(model, name)(**{key: tf.constant(value) for key, value in feeds.items()})
    return {key: value.numpy() for key, value in found.items()}


def converted(model: Path, target: Path, precision: str = "fp32", samples: dict[str, Array] | None = None,
              ranges: Path | None = None, **options: Any) -> tuple[Artifact, Path]:
    """What the backend makes of all signatures of ``model``, and the folder of the SavedModel that it wrote."""
    contract = saved_model.read_contract(model)
    if samples is not None:
        ranges = calibrated(model, dict.fromkeys(contract.signatures, samples), target.with_name(f"{target.name}.json"))
    request = ConversionRequest(model=model, tags=contract.tags, signatures=tuple(contract.signatures),
                                precision=precision, ranges=ranges, options=options)
    return backend("tf-trt").convert(request, contract, target), target / "model"


def standing_in(made: Path, kind: stand_in.Kind, name: str = "serving_default", **feeds: Any) -> Outputs:
    """What a stand-in for the converted SavedModel ``made`` answers."""
    target = made.with_name(f"{made.name}-{kind}")
    if not target.exists():
        stand_in.write(made, target, kind)
    return answers(target, name, **feeds)


def graph_of(model: Path) -> Any:
    """The GraphDef that lies in ``model``."""
    return saved_model.read_meta_graph(model, ("serve",)).graph_def


def functions(graph_def: Any) -> dict[str, Any]:
    return {function.signature.name: function for function in graph_def.library.function}


def nodes(graph_def: Any, *ops: str) -> list[Any]:
    """The nodes of these types, the bodies' included."""
    every = [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]
    return [node for node in every if node.op in ops]
