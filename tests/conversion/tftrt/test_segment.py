"""What TensorRT can take becomes engines, in bodies too, with names of their own and nothing left of the asking."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conversion.tftrt.builders import (
    Graph,
    answers,
    converted,
    floats,
    functions,
    graph_of,
    nodes,
    numbers,
    save,
    standing_in,
    variable,
)
from trt_pipeline.conversion import loops
from trt_pipeline.conversion.tftrt.segment import ENGINE, engines, segment, tidy

WEIGHT = numbers(8, 8, scale=0.3)


def two_segments(x: Any) -> dict[str, Any]:
    """Dense, an operation that TensorRT does not know, dense again."""
    first = tf.nn.relu(x @ WEIGHT) + 1.0
    between = tf.math.lgamma(tf.abs(first) + 1.0)
    return {"y": tf.nn.relu(between @ WEIGHT) * 2.0}


def a_loop(x: Any) -> dict[str, Any]:
    weight = tf.constant(WEIGHT)
    turned = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.nn.relu(h @ weight) + h)), [0, x])[1]
    return {"y": tf.nn.relu(turned @ weight) + 1.0}


def segmented(call: Any, precision: str = "fp32", prefix: str = "p", *specs: tf.TensorSpec) -> Any:
    graph = Graph(call, *(specs or (floats(None, 8),)))
    tidied = tidy(graph.graph_def, graph.inputs, graph.outputs)
    readied = loops.inline_constants(tidied, [*graph.inputs, *graph.outputs])
    return segment(readied, graph.inputs, graph.outputs, precision, prefix)


def test_every_engine_has_the_prefix_a_number_and_its_native_segment() -> None:
    made = segmented(two_segments, "fp32", "abc_0")
    names = [engine.name for engine in engines(made)]
    assert sorted(names) == ["TRTEngineOp_abc_0_000", "TRTEngineOp_abc_0_001"]
    assert {engine.attr["segment_func"].func.name for engine in engines(made)} == {
        f"{name}_native_segment" for name in names} <= functions(made).keys()


def test_engines_in_bodies_are_renamed_with_those_of_the_graph() -> None:
    made = segmented(a_loop, "fp32", "q")
    names = [engine.name for engine in engines(made)]
    assert len(names) == len(set(names)) == 2
    assert all(re.fullmatch(r"TRTEngineOp_q_\d{3}", name) for name in names)
    inside = [node.name for function in made.library.function for node in function.node_def if node.op == ENGINE]
    assert len(inside) == 1, "one of them lies in the loop's body"
    assert all(engine.attr["segment_func"].func.name == f"{engine.name}_native_segment" in functions(made)
               for engine in engines(made))


def test_what_only_counts_is_no_engine() -> None:
    """The loop's counters make a segment of their own in the pass, for which no GPU is worth a copy."""
    made = segmented(a_loop)
    for engine in engines(made):
        segment_function = functions(made)[engine.attr["segment_func"].func.name]
        assert {"MatMul", "Tanh", "Relu"} & {node.op for node in segment_function.node_def}
    every = {node.name for scope in (made.node, *(f.node_def for f in made.library.function)) for node in scope}
    assert every, "what was dissolved is called by a name that is there"
    called = {attr.func.name for node in nodes(made, "PartitionedCall") for attr in node.attr.values()
              if attr.func.name}
    assert called <= functions(made).keys()


def test_whoever_read_an_engine_reads_it_by_its_new_name() -> None:
    """Through data and control edges, in the graph and in bodies."""

    def call(x: Any) -> dict[str, Any]:
        first = tf.nn.relu(x @ WEIGHT) + 1.0
        with tf.control_dependencies([first]):
            return {"y": first, "after": tf.math.lgamma(x)}

    with_control = segmented(call)
    assert any(source.startswith(f"^{ENGINE}_p_") for node in with_control.node for source in node.input)
    for made in (with_control, segmented(two_segments), segmented(a_loop)):
        for scope in (made.node, *(function.node_def for function in made.library.function)):
            here = {node.name for node in scope}
            read = {source.lstrip("^").split(":")[0] for node in scope for source in node.input}
            assert {name for name in read if name.startswith(ENGINE)} <= here
        for function in made.library.function:
            here = {node.name for node in function.node_def} | {a.name for a in function.signature.input_arg}
            assert {source.split(":")[0] for source in function.ret.values()} <= here


def test_no_attribute_that_asked_for_the_conversion_of_a_body_is_left() -> None:
    made = segmented(a_loop)
    assert not [key for function in made.library.function for key in function.attr if "tftrt" in key]


def test_a_branch_is_converted_too() -> None:
    def call(x: Any) -> dict[str, Any]:
        def yes() -> Any:
            return tf.tanh(tf.nn.relu(tf.ensure_shape(x, [None, 8]) @ tf.constant(WEIGHT))) + 1.0

        return {"y": tf.cond(tf.reduce_sum(x) > 0, yes, lambda: x)}

    made = segmented(call)
    assert any(node.op == ENGINE for function in made.library.function for node in function.node_def)


@pytest.mark.parametrize(("precision", "mode"), [("fp32", b"FP32"), ("fp16", b"FP16")])
def test_every_engine_has_the_precision_that_was_asked(precision: str, mode: bytes) -> None:
    for call in (two_segments, a_loop):
        assert {engine.attr["precision_mode"].s for engine in engines(segmented(call, precision))} == {mode}


def test_engines_take_any_shape_and_are_built_when_they_run() -> None:
    for engine in engines(segmented(a_loop, "fp16")):
        assert (engine.attr["_use_implicit_batch"].b, engine.attr["static_engine"].b) == (False, False)
        assert engine.attr["_allow_build_at_runtime"].b
        assert not engine.attr["serialized_segment"].s
        assert not engine.attr["use_calibration"].b


def test_calibration_by_tensorrt_is_asked_of_every_engine() -> None:
    graph = Graph(two_segments, floats(None, 8))
    made = segment(graph.graph_def, graph.inputs, graph.outputs, "int8", "p", calibrate=True)
    assert {(e.attr["precision_mode"].s, e.attr["use_calibration"].b) for e in engines(made)} == {(b"INT8", True)}


def test_large_integers_survive_fp16(tmp_path: Path) -> None:
    """Asked for FP16, the pass itself sends every Cast from an integer through half, where 65520 is infinite."""
    module = tf.Module()
    module.weight = tf.Variable(np.float32([[1.0, 0.5], [0.25, 1.0]]))

    def call(ids: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(tf.cast(ids, tf.float32) @ module.weight) + 1.0, "wide": tf.cast(ids, tf.float32)}

    model = save(tmp_path / "model", module, serving_default=(call, [tf.TensorSpec([None, 2], tf.int32, "ids")]))
    ids = np.array([[65503, 65504], [65520, 70001], [2**24, 1]], np.int32)
    _, made = converted(model, tmp_path / "made", "fp16")
    assert not [n for n in nodes(graph_of(made), "Cast") if n.attr["DstT"].type == tf.float16.as_datatype_enum]
    expected, got = answers(model, ids=ids), standing_in(made, "surgery", ids=ids)
    assert expected["wide"].max() == 2**24
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


def test_tidying_folds_what_is_known_and_keeps_a_quantized_weight() -> None:
    def call(x: Any) -> dict[str, Any]:
        weight = tf.raw_ops.QuantizeAndDequantizeV2(input=tf.constant(WEIGHT), input_min=-1.0, input_max=1.0,
                                                    range_given=True)
        return {"y": x @ weight + tf.sqrt(tf.constant(4.0))}

    graph = Graph(call, floats(None, 8))
    made = tidy(graph.graph_def, graph.inputs, graph.outputs)
    assert not nodes(made, "Sqrt")
    assert nodes(made, "QuantizeAndDequantizeV2")
    x = numbers(2, 8, seed=9)
    np.testing.assert_allclose(graph.run(x, graph_def=made)[0], graph.run(x)[0], rtol=1e-6)


def test_two_signatures_and_precisions_share_no_engine_s_name(tmp_path: Path) -> None:
    """TensorFlow keeps built engines under their names, for the whole process."""
    module = tf.Module()
    module.weight = variable(8, 8)

    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(x @ module.weight) + 1.0}

    model = save(tmp_path / "model", module, one=(call, [floats(None, 8)]), two=(call, [floats(None, 8)]))
    names = [engine.name for precision in ("fp32", "fp16")
             for engine in engines(graph_of(converted(model, tmp_path / precision, precision)[1]))]
    assert len(set(names)) == len(names) == 4
