"""Weights that stay variables: TensorRT takes as much as of a frozen graph, and all signatures share them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conversion.tftrt.builders import (
    answers,
    converted,
    floats,
    functions,
    graph_of,
    nodes,
    numbers,
    save,
    signature,
    standing_in,
    variable,
)
from trt_pipeline.conversion import freeze
from trt_pipeline.conversion.tftrt import variables
from trt_pipeline.conversion.tftrt.convert import convert
from trt_pipeline.conversion.tftrt.segment import engines

X = numbers(2, 3, 64, seed=1)


class Model(tf.Module):
    """A dense net on (batch, length, 64), alone and in a loop, and convolutions; each of several variables."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.bias = variable(64, 64, scale=0.1), variable(64, seed=1)
        self.filters, self.more = variable(3, 3, 4, 8), variable(3, 3, 8, 4, seed=2)
        self.table = variable(7, 64, seed=3)

    def dense(self, x: Any) -> dict[str, Any]:
        hidden = tf.nn.relu(tf.tensordot(x, self.kernel, 1) + self.bias)
        return {"y": tf.tanh(tf.tensordot(hidden, self.kernel, 1)) * 2.0}

    def loop(self, x: Any) -> dict[str, Any]:
        def body(i: Any, h: Any) -> Any:
            return i + 1, tf.tanh(tf.nn.relu(tf.tensordot(h, self.kernel, 1) + self.bias) + tf.gather(self.table, i))

        return {"y": tf.while_loop(lambda i, h: i < 3, body, [0, x])[1]}

    def embedding(self, ids: Any) -> dict[str, Any]:
        return {"y": self.dense(tf.gather(self.table, ids))["y"] @ tf.transpose(self.table)}

    def convolution(self, x: Any) -> dict[str, Any]:
        hidden = tf.nn.relu(tf.nn.conv2d(x, self.filters, 1, "SAME"))
        return {"y": tf.nn.relu(tf.nn.conv2d(hidden, self.more, 1, "SAME")) + 1.0}


IDS = tf.TensorSpec([None, None], tf.int64, "ids")
SPECS = {"dense": floats(None, None, 64), "loop": floats(None, None, 64), "embedding": IDS,
         "convolution": floats(None, None, None, 4)}
FEEDS: dict[str, dict[str, Any]] = {
    "dense": {"x": X}, "loop": {"x": X}, "embedding": {"ids": np.array([[0, 6, 3]])},
    "convolution": {"x": numbers(2, 5, 5, 4, seed=4)}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = Model()
    calls = {name: (getattr(module, name), [spec]) for name, spec in SPECS.items()}
    return save(tmp_path_factory.mktemp("variables") / "model", module, **calls)


@pytest.fixture(scope="module")
def kept(model: Path) -> Path:
    """The model as it is converted to fp16 with its variables."""
    return converted(model, model.with_name("kept"), "fp16", freeze="never")[1]


@pytest.fixture(scope="module")
def frozen(model: Path) -> Path:
    """The same with its variables frozen."""
    return converted(model, model.with_name("frozen"), "fp16", freeze="always")[1]


@pytest.mark.parametrize("name", SPECS)
def test_as_much_is_covered_as_of_the_frozen_graph(name: str, model: Path) -> None:
    function = signature(model, name)
    plain = convert(function, "fp32", "f", keep_variables=False).coverage
    unfrozen = convert(function, "fp32", "v", keep_variables=True).coverage
    assert unfrozen.engines == plain.engines >= 1
    assert unfrozen.flops == plain.flops > 0
    assert unfrozen.flops_share == plain.flops_share == 1.0
    # A gather from a variable is an operation that TensorRT does not know.
    assert plain.operations_in_engines - unfrozen.operations_in_engines in (0, 1)


@pytest.mark.parametrize("name", SPECS)
def test_it_answers_as_the_original_does(name: str, model: Path, kept: Path) -> None:
    np.testing.assert_allclose(standing_in(kept, "surgery", name, **FEEDS[name])["y"],
                               answers(model, name, **FEEDS[name])["y"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SPECS)
def test_the_estimate_rounds_weights_whether_they_are_frozen_or_not(name: str, frozen: Path, kept: Path) -> None:
    np.testing.assert_allclose(standing_in(kept, "estimate", name, **FEEDS[name])["y"],
                               standing_in(frozen, "estimate", name, **FEEDS[name])["y"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["dense", "embedding", "convolution"])
def test_weights_are_read_inside_the_engines(name: str, model: Path) -> None:
    """Read outside, they come in as tensors, and TensorRT builds no convolution from such a filter."""
    made = convert(signature(model, name), "fp32", "v", keep_variables=True).graph.graph_def
    segments = [functions(made)[engine.attr["segment_func"].func.name] for engine in engines(made)]
    inside = [node for segment in segments for node in segment.node_def]
    assert any(node.op == "ReadVariableOp" for node in inside)
    for segment in segments:
        given = {argument.name for argument in segment.signature.input_arg}
        assert not [node.name for node in segment.node_def if node.op == "Conv2D" and node.input[1] in given]


def test_what_an_engine_reads_says_its_shape_in_the_saved_model(kept: Path) -> None:
    """TensorRT's converter of reads wants the attribute when it builds."""
    graph_def = graph_of(kept)
    reads = [node for engine in engines(graph_def)
             for node in functions(graph_def)[engine.attr["segment_func"].func.name].node_def
             if node.op == "ReadVariableOp"]
    assert len(reads) >= 5
    assert all(node.attr["_shape"].shape.dim for node in reads)


def test_a_convolution_in_a_loop_is_left_out_where_its_filter_is_a_variable(tmp_path: Path) -> None:
    """In a body the filter cannot but come in as a tensor, and the engine could not be built."""
    module = tf.Module()
    module.filters = variable(3, 3, 4, 4)

    def call(x: Any) -> dict[str, Any]:
        def step(h: Any) -> Any:
            return tf.nn.relu(tf.nn.conv2d(h, module.filters, 1, "SAME")) + 1.0

        return {"y": tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, step(h)), [0, x])[1]}

    model = save(tmp_path / "model", module, serving_default=(call, [floats(None, 8, 8, 4)]))
    made = convert(signature(model), "fp32", "v", keep_variables=True).graph.graph_def
    for engine in engines(made):
        segment = functions(made)[engine.attr["segment_func"].func.name]
        given = {argument.name for argument in segment.signature.input_arg}
        assert not [node.name for node in segment.node_def if node.op == "Conv2D" and node.input[1] in given]


def test_handles_are_placeholders_again_when_the_pass_is_done(model: Path) -> None:
    graph = freeze.inline(signature(model, "loop"))
    assert graph.resources, "it has captured variables"
    before = {node.name: node.op for node in graph.graph_def.node}
    variables.declare(graph)
    assert nodes(graph.graph_def, "VarHandleOp")
    variables.restore(graph.graph_def)
    assert {node.name: node.op for node in graph.graph_def.node} == before
    made = convert(signature(model, "loop"), "fp32", "v", keep_variables=True).graph
    placeholders = {node.name: node for node in made.graph_def.node if node.op == "Placeholder"}
    assert all(placeholders[name].attr["dtype"].type == tf.resource.as_datatype_enum for name in made.resources)
    assert not nodes(made.graph_def, "VarHandleOp")


def test_bodies_are_told_what_their_handles_hold(model: Path) -> None:
    graph = freeze.inline(signature(model, "loop"))
    variables.declare(graph)
    told = {tuple(dimension.size for dimension in shape.dim)
            for function in graph.graph_def.library.function for entry in function.arg_attr.values()
            for shape in entry.attr["_handle_shapes"].list.shape}
    assert told == {(64, 64), (64,), (7, 64)}
    reads = nodes(graph.graph_def, "ReadVariableOp", "ResourceGather")
    assert reads and all(node.attr["_shape"].shape.dim for node in reads)


def test_the_variables_lie_in_the_model_once_and_the_graph_is_small(frozen: Path, kept: Path) -> None:
    stored = tf.train.list_variables(str(kept / "variables" / "variables"))
    shapes = sorted(tuple(shape) for name, shape in stored if not name.startswith("_"))
    assert shapes == sorted([(64, 64), (64,), (3, 3, 4, 8), (3, 3, 8, 4), (7, 64)])
    weights = 4 * 64 * 64
    assert (frozen / "saved_model.pb").stat().st_size - (kept / "saved_model.pb").stat().st_size > 2 * weights
    large = [tf.make_ndarray(node.attr["value"].tensor).size for node in nodes(graph_of(kept), "Const")]
    assert max(large) < 64


def test_the_signatures_share_their_variables(kept: Path) -> None:
    loaded = tf.saved_model.load(str(kept))
    handles = [{id(external) for external, _ in loaded.signatures[name].graph.captures} for name in ("dense", "loop")]
    assert handles[0] <= handles[1]
    assert len(handles[0]) == 2
