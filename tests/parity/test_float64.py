"""The float64 twin of a graph: no float32 left, integers untouched, and the answer of float64 arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from trt_pipeline.parity.float64 import to_float64


def graph_of(function: Any, *specs: tf.TensorSpec) -> tuple[Any, list[str], str]:
    """GraphDef, input names and output name of a Python function."""
    concrete = tf.function(function).get_concrete_function(*specs)
    return concrete.graph.as_graph_def(), [t.name for t in concrete.inputs], concrete.outputs[0].name


def call(graph_def: Any, feeds: dict[str, Any], output: str) -> np.ndarray:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        return np.asarray(session.run(output, feeds))


def types_in(graph_def: Any) -> set[int]:
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    found = {a.type for n in nodes for a in n.attr.values()} | {t for n in nodes for a in n.attr.values()
                                                                  for t in a.list.type}
    found |= {a.tensor.dtype for n in nodes for a in n.attr.values() if a.HasField("tensor")}
    return found | {a.type for f in graph_def.library.function
                    for a in (*f.signature.input_arg, *f.signature.output_arg)}


def test_a_sum_that_float32_gets_wrong_is_right() -> None:
    graph_def, (x,), output = graph_of(lambda x: x + tf.constant(1e-9), tf.TensorSpec([2], tf.float32))
    assert call(graph_def, {x: [1.0, 2.0]}, output).tolist() == [1.0, 2.0]
    doubled = call(to_float64(graph_def), {x: [1.0, 2.0]}, output)
    assert doubled.dtype == np.float64
    np.testing.assert_allclose(doubled - [1.0, 2.0], 1e-9, rtol=1e-6)


def test_the_given_graph_is_left_as_it_was() -> None:
    graph_def, _, _ = graph_of(lambda x: x * 2.0, tf.TensorSpec([2], tf.float32))
    before = graph_def.SerializeToString(deterministic=True)
    assert types_pb2.DT_FLOAT not in types_in(to_float64(graph_def))
    assert graph_def.SerializeToString(deterministic=True) == before


def test_loop_bodies_and_lists_of_types_are_doubled_and_integers_kept() -> None:
    def power(x: Any, n: Any) -> Any:
        return tf.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * 1.1), (0, x))[1]

    graph_def, (x, n), output = graph_of(power, tf.TensorSpec([1], tf.float32), tf.TensorSpec([], tf.int32))
    doubled = to_float64(graph_def)
    assert types_pb2.DT_FLOAT not in types_in(doubled)
    assert types_pb2.DT_INT32 in types_in(doubled)
    # 1.1 was a float32 constant; its float64 twin is that very number, not 1.1.
    np.testing.assert_allclose(call(doubled, {x: [1.0], n: 40}, output), [float(np.float32(1.1)) ** 40], rtol=1e-13)


def test_an_inference_batch_norm_becomes_arithmetic() -> None:
    scale, offset, mean, variance = (np.array(v, np.float32) for v in ([2, 3], [1, -1], [0.5, 4], [4, 0.25]))

    def normalize(x: Any) -> Any:
        return tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon=0.0, is_training=False)[0]

    graph_def, (x,), output = graph_of(normalize, tf.TensorSpec([None, 1, 1, 2], tf.float32))
    assert any(node.op.startswith("FusedBatchNorm") for node in graph_def.node)
    # (2.5 - 0.5) / 2 * 2 + 1 = 3; (5 - 4) / 0.5 * 3 - 1 = 5. TensorFlow raises an epsilon of 0 to 1.001e-5.
    answer = call(to_float64(graph_def), {x: [[[[2.5, 5.0]]]]}, output)
    assert answer.dtype == np.float64
    np.testing.assert_allclose(answer.ravel(), [3.0, 5.0], rtol=1e-4)
    np.testing.assert_allclose(answer, call(graph_def, {x: [[[[2.5, 5.0]]]]}, output), rtol=1e-6)
