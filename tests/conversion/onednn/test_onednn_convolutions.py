"""Convolutions in int8, against fake quantization around TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf


def normal(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


K, B = normal(3, 3, 8, 16, seed=1, scale=0.2), normal(16, seed=2)
X = normal(2, 9, 10, 8)


def within_a_step(actual, expected, step, share=0.02):
    """Within one step of the output everywhere, and equal nearly everywhere."""
    assert actual.shape == expected.shape
    error = np.abs(actual - expected)
    assert error.max() <= step * 1.01
    assert (error > 0.01 * step).mean() <= share


def step(bounds, signed=False):
    return max(map(abs, bounds)) / 127 if signed else max(bounds[1], 0) / 255


@pytest.mark.parametrize("positive", [False, True], ids=["signed input", "unsigned input"])
@pytest.mark.parametrize("options", [
    {"padding": "SAME"}, {"padding": "VALID"}, {"padding": "SAME", "strides": 2},
    {"padding": "SAME", "dilations": 2}, {"padding": "SAME", "strides": [2, 1]},
    {"padding": [[0, 0], [2, 1], [0, 3], [0, 0]]}, {"padding": [[0, 0], [1, 2], [1, 0], [0, 0]], "strides": 2},
], ids=str)
def test_convolution_bias_and_relu(net, emulated, options, positive):
    options = {"strides": 1, **options}
    x = np.abs(X) if positive else X
    made = net(lambda x: tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, K, **options), B)), [None, None, None, 8], x)
    assert made.ops["QuantizedConv2DWithBiasAndReluAndRequantize"] == 1 and made.ops["Conv2D"] == 0
    quantize = emulated.unsigned if positive else emulated.signed
    exact = tf.nn.conv2d(quantize(x, *made.range("x:0")).astype(np.float32),
                         emulated.weight(K, per_channel=True).astype(np.float32), **options) + B
    low, high = made.range("Relu:0")
    within_a_step(made.after(x=x)["y"], emulated.unsigned(np.maximum(exact, 0), low, high), step((low, high)))


def test_padding_before_it_becomes_its_own(net, emulated):
    made = net(lambda x: tf.nn.conv2d(tf.pad(x, [[0, 0], [3, 2], [1, 3], [0, 0]]), K, 2, "VALID") + B,
               [None, 9, 10, 8], X)
    assert made.ops["Pad"] == 0
    exact = tf.nn.conv2d(np.pad(emulated.signed(X, *made.range("x:0")), [[0, 0], [3, 2], [1, 3], [0, 0]]).astype("f4"),
                         emulated.weight(K, per_channel=True).astype("f4"), 2, "VALID") + B
    bounds = made.range("add:0")
    within_a_step(made.after(x=X)["y"], emulated.signed(exact.numpy(), *bounds), step(bounds, signed=True))


def test_without_bias_and_without_relu(net, emulated):
    made = net(lambda x: tf.nn.conv2d(x, K, 1, "SAME"), [None, 9, 10, 8], X)
    exact = tf.nn.conv2d(emulated.signed(X, *made.range("x:0")).astype("f4"),
                         emulated.weight(K, per_channel=True).astype("f4"), 1, "SAME")
    bounds = made.range("Conv2D:0")
    within_a_step(made.after(x=X)["y"], emulated.signed(exact.numpy(), *bounds), step(bounds, signed=True))
    assert made.after(x=X[:1])["y"].shape == (1, 9, 10, 16)


def test_relu6_ends_at_6(net):
    made = net(lambda x: tf.nn.relu6(tf.nn.conv2d(x, K * 4, 1, "SAME")), [None, 9, 10, 8], X)
    after = made.after(x=X)["y"]
    assert after.max() == 6 and made.ops["Relu6"] == 0
    assert np.abs(after - made.before(x=X)["y"]).max() < 0.4


def test_batch_norm_is_part_of_the_convolution(net):
    norm = [np.abs(normal(16, seed=s)) + 0.1 for s in range(4)]
    made = net(lambda x: tf.nn.relu(tf.compat.v1.nn.fused_batch_norm(
        tf.nn.conv2d(x, K, 1, "SAME"), *norm, is_training=False)[0]), [None, 9, 10, 8], X)
    assert made.ops["QuantizedConv2DWithBiasAndReluAndRequantize"] == 1 and made.ops["FusedBatchNormV3"] == 0
    before, after = made.before(x=X)["y"], made.after(x=X)["y"]
    assert np.abs(after - before).max() < 0.05 * before.max()


def _layer(x, seed, channels=16, size=3):
    return tf.nn.bias_add(tf.nn.conv2d(x, normal(size, size, x.shape[-1], channels, seed=seed, scale=0.15), 1, "SAME"),
                          normal(channels, seed=seed + 50, scale=0.3))


def close(made, x, share=0.1):
    before, after = made.before(x=x), made.after(x=x)
    for name in before:
        assert after[name].shape == before[name].shape
        assert np.abs(after[name] - before[name]).max() < share * np.abs(before[name]).max()


def test_chain_stays_in_8_bits(net):
    def chain(x):
        for seed in range(3):
            x = tf.nn.relu(_layer(x, seed))
        return x

    made = net(chain, [None, 9, 10, 8], X)
    assert made.ops["QuantizeV2"] == made.ops["Dequantize"] == 1
    close(made, X)


def test_identity_and_projected_shortcuts_are_added_in_place(net):
    def blocks(x):
        x = tf.nn.relu(_layer(x, 0))
        x = tf.nn.relu(x + _layer(tf.nn.relu(_layer(x, 1)), 2))
        return tf.nn.relu(_layer(tf.nn.relu(_layer(x, 3)), 4, 32) + _layer(x, 5, 32, size=1))

    made = net(blocks, [None, 9, 10, 8], X)
    assert made.ops["QuantizedConv2DWithBiasSumAndReluAndRequantize"] == 1
    assert made.ops["QuantizedConv2DWithBiasSignedSumAndReluAndRequantize"] == 1
    assert made.ops["QuantizeV2"] == made.ops["Dequantize"] == 1 and made.ops["AddV2"] == 0
    close(made, X)
    close(made, X[:1])


def test_shortcut_that_is_read_later_is_added_in_float(net):
    def blocks(x):
        x = tf.nn.relu(_layer(x, 0))
        y = tf.nn.relu(x + _layer(tf.nn.relu(_layer(x, 1)), 2))
        return {"y": tf.nn.relu(_layer(y, 3)), "z": tf.exp(-x) + tf.reduce_mean(y)}

    made = net(blocks, [None, 9, 10, 8], X)
    assert not any("Sum" in op for op in made.ops if op.startswith("Quantized"))
    close(made, X)


def test_shortcut_that_would_be_broadcast_is_added_in_float(net):
    def block(x):
        x = tf.nn.relu(_layer(x, 0))
        row = tf.nn.relu(tf.nn.conv2d(x, normal(9, 1, 16, 16, seed=7, scale=0.1), 1, "VALID"))
        return tf.nn.relu(row + _layer(x, 2))

    made = net(block, [None, 9, 10, 8], X)
    assert not any("Sum" in op for op in made.ops if op.startswith("Quantized"))
    close(made, X)


def test_pooling_and_padding_between_stay_in_8_bits(net):
    def chain(x):
        x = tf.nn.relu(_layer(x, 0))
        x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        x = tf.nn.avg_pool2d(tf.nn.relu(_layer(x, 1)), 2, 1, "SAME")
        return tf.nn.relu(_layer(x, 2))

    made = net(chain, [None, 9, 10, 8], X)
    assert made.ops["QuantizedMaxPool"] == made.ops["QuantizedAvgPool"] == made.ops["QuantizeV2"] == 1
    assert made.ops["MaxPool"] == made.ops["AvgPool"] == 0
    close(made, X)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_relu_that_the_optimizer_put_after_the_pooling(net, padding):
    def chain(x):
        x = tf.nn.max_pool2d(tf.nn.relu(_layer(x, 0)), 3, 2, padding)
        return tf.nn.relu(_layer(x, 1))

    made = net(chain, [None, 9, 10, 8], X)
    assert made.ops["QuantizedMaxPool"] == made.ops["QuantizeV2"] == made.ops["Dequantize"] == 1
    assert made.ops["Relu"] == made.ops["MaxPool"] == 0
    close(made, X)


def test_signed_pooling(net):
    made = net(lambda x: _layer(tf.nn.max_pool2d(_layer(x, 0), 2, 2, "SAME"), 1), [None, 9, 10, 8], X)
    assert made.ops["QuantizedMaxPool"] == 1
    close(made, X)


def test_flattened_into_a_product(net):
    weight = normal(9 * 10 * 16, 32, seed=9, scale=0.05)
    made = net(lambda x: tf.reshape(tf.nn.relu(_layer(x, 0)), [-1, 9 * 10 * 16]) @ weight, [None, 9, 10, 8], X)
    assert made.ops["QuantizeV2"] == 1 and made.ops["Dequantize"] == 0 and len(made.low.nodes) == 2
    close(made, X)


def test_raised_convolution_in_the_middle(net):
    def chain(x):
        for seed in range(3):
            x = tf.nn.relu(_layer(x, seed))
        return x

    made = net(chain, [None, 9, 10, 8], X)
    for name in made.low.nodes:
        again = made.again({name})
        assert again.low.kept == {name: "raised"} and again.ops["Conv2D"] == 1
        close(again, X)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "SAME"), (2, "VALID")])
def test_depthwise_between_relus(net, emulated, stride, padding, multiplier):
    weight, bias = normal(3, 3, 8, multiplier, seed=1, scale=0.4), normal(8 * multiplier, seed=2)
    x = np.abs(X)
    made = net(lambda x: tf.nn.relu6(tf.nn.depthwise_conv2d(x, weight, [1, stride, stride, 1], padding) + bias),
               [None, 9, 10, 8], x)
    assert made.ops["QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize"] == 1
    codes = emulated.weight(weight.reshape(3, 3, -1), per_channel=True).reshape(weight.shape).astype("f4")
    exact = tf.nn.depthwise_conv2d(emulated.unsigned(x, *made.range("x:0")).astype("f4"), codes,
                                   [1, stride, stride, 1], padding) + bias
    bounds = made.range("Relu6:0")
    within_a_step(made.after(x=x)["y"], emulated.unsigned(np.maximum(exact, 0), *bounds), step(bounds))


def test_depthwise_and_strange_convolutions_stay(net):
    def several(x):
        return {"deep": tf.nn.depthwise_conv2d(x, normal(3, 3, 8, 2), [1, 1, 1, 1], "SAME"), "y": _layer(x, 0),
                "free": tf.nn.conv2d(x, tf.reshape(x[0, :1, :8], [1, 1, 8, 8]), 1, "SAME"),
                "back": tf.nn.conv2d_transpose(x, normal(3, 3, 4, 8), [2, 9, 10, 4], 1)}

    made = net(several, [2, 9, 10, 8], X)
    assert sorted(made.low.kept.values()) == [
        "a depthwise convolution that does not stand between two ReLUs", "a transposed convolution",
        "its weight is not constant"]
    close(made, X)


def test_convolutions_in_a_loop_and_a_branch(net):
    def steps(x):
        x = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.nn.relu(_layer(x, 0, 8))), [0, x])[1]
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(_layer(x, 1, 8)), lambda: x)

    made = net(steps, [None, 9, 10, 8], X)
    assert len(made.low.nodes) == 2
    close(made, X, 0.2)
    close(made, X[:1], 0.2)
