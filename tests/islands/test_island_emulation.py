from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from island_nets import Net, looping_net, outlier_net

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.halves import rounded
from trt_pipeline.islands.arithmetic import quantized, quantized_weight
from trt_pipeline.islands.emulate import Emulation, computing_nodes

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(6, 5)).astype(np.float32)
W = RANDOM.normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def product(tmp_path: Path) -> Net:
    return Net(tmp_path, lambda x: tf.matmul(x, W, name="product"), X)


def eight_bits(emulation: Emulation, x: np.ndarray, raised: tuple[str, ...] = ()) -> np.ndarray:
    return emulation({"x": x}, raised)["y"]


def test_one_matmul_is_the_integer_arithmetic(product: Net) -> None:
    [node] = product.nodes("MatMul")
    emulation = Emulation(product.graph, product.ranges, "int8", [node])
    low, high = min(X.min(), 0), max(X.max(), 0)
    step, steps = (high - low) / 255, np.abs(W).max(axis=0) / 127
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(X / step) + zero, 0, 255).astype(np.int32) - int(zero)
    weights = np.rint(W / steps).astype(np.int32)
    np.testing.assert_allclose(eight_bits(emulation, X), (codes @ weights) * step * steps, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(eight_bits(emulation, X, (node,)), product.run())


def test_values_beyond_the_range_saturate(product: Net) -> None:
    emulation = Emulation(product.graph, product.ranges, "int8", product.nodes("MatMul"))
    np.testing.assert_array_equal(eight_bits(emulation, X * 0 + 1e6), eight_bits(emulation, X * 0 + 1e9))


def test_signed_activations(product: Net) -> None:
    emulation = Emulation(product.graph, product.ranges, "int8", product.nodes("MatMul"), symmetric=True)
    expected = quantized(X, X.min(), X.max(), symmetric=True) @ quantized_weight(W, (1,))
    np.testing.assert_allclose(eight_bits(emulation, X), expected, rtol=1e-4, atol=1e-4)


def test_a_transposed_weight_has_its_channels_on_its_first_axis(tmp_path: Path) -> None:
    net = Net(tmp_path, lambda x: tf.matmul(x, np.ascontiguousarray(W.T), transpose_b=True), X)
    emulation = Emulation(net.graph, net.ranges, "int8", net.nodes("MatMul"))
    expected = quantized(X, X.min(), X.max()) @ quantized_weight(W, (1,))
    np.testing.assert_allclose(eight_bits(emulation, X), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def convolutions(tmp_path: Path) -> Net:
    first, second = (RANDOM.normal(size=(3, 3, 2, 2)).astype(np.float32) for _ in range(2))
    x = RANDOM.normal(size=(4, 6, 6, 2)).astype(np.float32)
    return Net(tmp_path, lambda x: tf.nn.conv2d(tf.nn.relu(tf.nn.bias_add(
        tf.nn.conv2d(x, first, 1, "SAME", name="one"), [0.1, -0.2]), name="relu"), second, 1, "VALID", name="two"), x)


def test_one_convolution(convolutions: Net) -> None:
    one, two = convolutions.nodes("Conv2D")
    emulation = Emulation(convolutions.graph, convolutions.ranges, "int8", [one, two])
    graph = {node.name: node for node in convolutions.graph.graph_def.node}
    kernels = [tf.make_ndarray(graph[graph[name].input[1]].attr["value"].tensor) for name in (one, two)]
    x, bias = convolutions.x, [0.1, -0.2]
    coarse = tf.nn.conv2d(quantized(x, x.min(), x.max()), quantized_weight(kernels[0], (3,)), 1, "SAME")
    expected = tf.nn.conv2d(tf.nn.relu(coarse + bias), kernels[1], 1, "VALID")
    np.testing.assert_allclose(eight_bits(emulation, x, (two,)), expected, rtol=1e-4, atol=1e-4)


def test_results_of_convolutions_are_quantized_once_after_their_bias_and_relu(convolutions: Net) -> None:
    one, two = convolutions.nodes("Conv2D")
    x = convolutions.x
    plain = Emulation(convolutions.graph, convolutions.ranges, "int8", [one])
    chained = Emulation(convolutions.graph, convolutions.ranges, "int8", [one, two], outputs=True)
    with_input = Emulation(convolutions.graph, convolutions.ranges, "int8", [one, two])
    # The second one's kernel in float32, its activation coarse: only the first one's result explains that.
    assert not np.array_equal(eight_bits(plain, x), eight_bits(chained, x, (two,)))
    # Both low, one and the same rounding stands on the edge between them.
    np.testing.assert_array_equal(eight_bits(with_input, x), eight_bits(chained, x))
    np.testing.assert_array_equal(eight_bits(chained, x, (one, two)), convolutions.run())


def test_readers_of_one_tensor_are_raised_one_by_one(tmp_path: Path) -> None:
    first, second = W, RANDOM.normal(size=(5, 4)).astype(np.float32)
    net = Net(tmp_path, lambda x: tf.concat([tf.matmul(x, first, name="a"), tf.matmul(x, second, name="b")], 1), X)
    a, b = net.nodes("MatMul")
    emulation = Emulation(net.graph, net.ranges, "int8", [a, b])
    low, exact = eight_bits(emulation, X), net.run()
    mixed = eight_bits(emulation, X, (a,))
    columns = slice(0, 4) if np.array_equal(mixed[:, :4], exact[:, :4]) else slice(4, 8)
    np.testing.assert_array_equal(mixed[:, columns], exact[:, columns])
    others = np.setdiff1d(np.arange(8), np.arange(8)[columns])
    np.testing.assert_array_equal(mixed[:, others], low[:, others])
    assert not np.array_equal(low[:, columns], exact[:, columns])


def test_nodes_inside_a_loop_body(tmp_path: Path) -> None:
    net = looping_net(tmp_path)
    [node] = net.nodes("MatMul")
    assert ".body/" in node
    emulation = Emulation(net.graph, net.ranges, "int8", [node])
    weight = np.random.default_rng(2).normal(size=(8, 8)).astype(np.float32) / 3
    low, high = net.ranges.of(next(t for t in net.ranges.ranges if t.startswith(node.rpartition("/")[0])
                                   and net.ranges.ranges[t] == (net.x.min(), net.x.max()))) or (0, 0)
    expected = net.x
    for _ in range(3):
        expected = np.tanh(quantized(expected, low, high) @ quantized_weight(weight, (1,)))
    np.testing.assert_allclose(eight_bits(emulation, net.x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(eight_bits(emulation, net.x, (node,)), net.run())
    np.testing.assert_allclose(eight_bits(emulation, net.x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_halves_round_inputs_weights_and_results(tmp_path: Path, precision: str) -> None:
    net = Net(tmp_path, lambda x: tf.tanh(tf.matmul(x, W)), X)
    matmul, tanh = net.nodes("MatMul", "Tanh")
    emulation = Emulation(net.graph, net.ranges, precision, [matmul, tanh])
    product = rounded(rounded(X, precision) @ rounded(W, precision), precision)
    step = 2.0 ** (-8 if precision == "bf16" else -11)
    np.testing.assert_allclose(eight_bits(emulation, X), rounded(np.tanh(product), precision), rtol=2 * step)
    np.testing.assert_allclose(eight_bits(emulation, X, (tanh,)), np.tanh(product), rtol=2 * step)
    assert np.array_equal(rounded(eight_bits(emulation, X), precision), eight_bits(emulation, X))
    np.testing.assert_array_equal(eight_bits(emulation, X, (matmul, tanh)), net.run())


def test_what_half_precision_cannot_hold_is_infinite(tmp_path: Path) -> None:
    net = Net(tmp_path, lambda x: tf.square(x, name="square") * 1e-3, np.full((1, 2), 300, np.float32))
    square, scale = net.nodes("Square", "Mul")
    emulation = Emulation(net.graph, net.ranges, "fp16", [square, scale])
    assert np.isinf(eight_bits(emulation, net.x)).all()
    assert np.isinf(eight_bits(emulation, net.x, (square,))).all()
    np.testing.assert_allclose(eight_bits(emulation, net.x, (square, scale)), 90)


def test_rounding_agrees_with_tensorflow() -> None:
    bits = RANDOM.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32)
    edges = np.array([65504, 65519.9, 65520, 1e-8, np.inf, -0.0], np.float32)
    values = np.concatenate([bits.view(np.float32), edges])
    for precision, kind in (("fp16", tf.float16), ("bf16", tf.bfloat16)):
        np.testing.assert_array_equal(rounded(values, precision), tf.cast(tf.cast(values, kind), tf.float32).numpy())


def test_tensors_that_calibration_never_saw_keep_their_activation(product: Net) -> None:
    emulation = Emulation(product.graph, SignatureRanges(ranges={}, extents={}), "int8", product.nodes("MatMul"))
    np.testing.assert_allclose(eight_bits(emulation, X), X @ quantized_weight(W, (1,)), rtol=1e-5, atol=1e-5)


def test_a_node_that_is_not_there_is_named(product: Net) -> None:
    with pytest.raises(KeyError, match="no node nowhere"):
        Emulation(product.graph, product.ranges, "int8", ["nowhere"])


def test_computing_nodes_leave_out_what_only_moves_values(tmp_path: Path) -> None:
    net = outlier_net(tmp_path)
    found = computing_nodes(net.graph)
    assert set(net.nodes("MatMul", "BiasAdd", "Relu")) == set(found)
