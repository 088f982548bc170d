"""Matrix products in int8, against numpy."""

import numpy as np
import pytest
import tensorflow as tf

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.onednn import products
from trt_pipeline.conversion.onednn.rewrite import rewrite
from trt_pipeline.errors import Unsupported


def normal(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


W, B = normal(128, 256, seed=1, scale=0.1), normal(256, seed=2)


def nearly(actual, expected, step=0.0):
    """Equal but for the rounding of sums, or of a code that lies halfway: ``step`` is what one makes."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=step + 1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 0.1), (5.0, 1.0), (-5.0, 0.5)],
                         ids=["signed", "mostly positive", "positive", "all negative"])
def test_product_and_bias_are_those_of_quantized_numbers(net, emulated, shift, scale):
    x = normal(16, 128, scale=scale) + np.float32(shift)
    made = net(lambda x: tf.nn.bias_add(tf.matmul(x, W), B), [None, 128], x)
    nearly(made.after(x=x)["y"], emulated.unsigned(x, *made.range("x:0")) @ emulated.weight(W) + B, 0.01 * scale)
    assert made.ops["QuantizedMatMulWithBiasAndDequantize"] == 1
    assert made.ops["MatMul"] == made.ops["BiasAdd"] == 0
    assert made.low.share == 1


def test_values_outside_the_range_saturate(net, emulated):
    made = net(lambda x: tf.matmul(x, W), [None, 128], normal(4, 128))
    x = normal(4, 128, seed=5, scale=9)
    nearly(made.after(x=x)["y"], emulated.unsigned(x, *made.range("x:0")) @ emulated.weight(W), 0.02)


def test_weight_that_is_transposed_and_bias_by_addition(net, emulated):
    x = normal(3, 128)
    made = net(lambda x: B + tf.matmul(x, W.T.copy(), transpose_b=True), [None, 128], x)
    nearly(made.after(x=x)["y"], emulated.unsigned(x, *made.range("x:0")) @ emulated.weight(W) + B, 0.01)
    assert made.ops["AddV2"] == 0


def test_dense_layers_share_one_quantized_activation_whatever_the_rank(net):
    x = normal(2, 5, 128)

    def attention(x):
        parts = [tf.tensordot(x, normal(128, 256, seed=s, scale=0.1), 1) + B for s in range(3)]
        return {str(i): part for i, part in enumerate(parts)}

    made = net(attention, [None, None, 128], x)
    assert made.ops["QuantizeV2"] == 1 and made.ops["QuantizedMatMulWithBiasAndDequantize"] == 3
    other = normal(3, 7, 128, seed=4).clip(x.min(), x.max())
    before, after = made.before(x=other), made.after(x=other)
    for name in before:
        assert after[name].shape == (3, 7, 256)
        assert np.abs(after[name] - before[name]).max() < 0.1 * before[name].std()


def test_relu_between_two_products_stays_in_8_bits(net, emulated):
    second = normal(256, 128, seed=3, scale=0.1)
    x = normal(2, 5, 128)
    made = net(lambda x: tf.tensordot(tf.nn.relu(tf.tensordot(x, W, 1) + B), second, 1), [None, None, 128], x)
    assert made.ops["QuantizeV2"] == 1 and made.ops["Relu"] == 0
    assert made.ops["QuantizedMatMulWithBiasAndReluAndRequantize"] == 1
    low, high = made.range("Relu:0")
    hidden = emulated.unsigned(
        np.maximum(emulated.unsigned(x, *made.range("x:0")) @ emulated.weight(W) + B, 0), low, high)
    step = 4 * high / 255 * np.abs(second).max()
    nearly(made.after(x=x)["y"], hidden @ emulated.weight(second), step)


def test_relu_that_is_read_elsewhere_stays_float(net):
    x = normal(4, 128)

    def two(x):
        hidden = tf.nn.relu(tf.matmul(x, W) + B)
        return {"hidden": hidden, "y": tf.matmul(hidden, W.T.copy())}

    made = net(two, [None, 128], x)
    before, after = made.before(x=x), made.after(x=x)
    for name in before:
        assert np.abs(after[name] - before[name]).max() < 0.1 * before[name].std()


def test_columns_of_very_different_size_get_their_own_scales(net):
    sizes = np.geomspace(1e-3, 1, 256).astype(np.float32)
    x = normal(16, 128)
    made = net(lambda x: tf.nn.bias_add(tf.matmul(x, W * sizes), B * sizes), [None, 128], x)
    before, after = made.before(x=x)["y"] / sizes, made.after(x=x)["y"] / sizes
    assert np.abs(after - before).max() < 0.1 * before.std()


def test_input_that_was_always_zero_gives_the_bias(net):
    made = net(lambda x: tf.matmul(x, W) + B, [None, 128], np.zeros((2, 128), np.float32))
    np.testing.assert_allclose(made.after(x=np.zeros((3, 128), np.float32))["y"], np.tile(B, (3, 1)), atol=1e-5)


def test_tiny_and_huge_ranges_keep_their_precision(net):
    for size in (1e-6, 1e6):
        x = normal(8, 128, scale=size)
        made = net(lambda x: tf.matmul(x, W), [None, 128], x)
        before, after = made.before(x=x)["y"], made.after(x=x)["y"]
        assert np.abs(after - before).max() < 0.1 * before.std()


def test_no_rows(net):
    made = net(lambda x: tf.matmul(x, W) + B, [None, 128], normal(2, 128))
    assert made.after(x=np.zeros((0, 128), np.float32))["y"].shape == (0, 256)


def test_raised_products_stay_as_they_were(net):
    x = normal(4, 128)
    made = net(lambda x: {"a": tf.matmul(x, W), "b": tf.matmul(x, W[::-1].copy())}, [None, 128], x)
    raised = made.low.nodes[0]
    again = made.again({raised})
    assert again.low.kept == {raised: "raised"} and again.low.nodes == made.low.nodes[1:]
    before, after = made.before(x=x), again.after(x=x)
    assert sorted(np.array_equal(before[name], after[name]) for name in before) == [False, True]


def test_products_that_stay_say_why(net):
    def several(x):
        wide = tf.cast(x, tf.float64)
        return {"int8": tf.matmul(x, W), "small": tf.matmul(x, W[:, :8]), "free": tf.matmul(x, x, transpose_b=True),
                "double": tf.matmul(wide, W.astype(np.float64)), "turned": tf.matmul(x, W, transpose_a=True)}

    made = net(several, [128, 128], normal(128, 128))
    reasons = " | ".join(sorted(made.low.kept.values()))
    for why in ("it computes in float64", "its input is transposed", "its weight is not constant", "small: 1024"):
        assert why in reasons
    assert len(made.low.nodes) == 1


def test_product_that_was_never_measured_stays(net):
    made = net(lambda x: tf.matmul(x, W), [None, 128], normal(4, 128))
    with pytest.raises(Unsupported, match="no range was measured"):
        rewrite(made.original, SignatureRanges(ranges={}, extents={}))


def test_bias_that_no_int32_holds_stays(net):
    with pytest.raises(Unsupported, match="bias is too large"):
        net(lambda x: tf.matmul(x, W) + B * 1e9, [None, 128], normal(4, 128, scale=1e-3))


def test_products_in_a_loop(net):
    square = normal(384, 384, seed=1, scale=0.05)
    assert square.size >= products.SMALLEST_IN_LOOP

    def steps(x):
        return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.tanh(tf.matmul(x, square) + 0.1)), [0, x])[1]

    x = normal(2, 384)
    made = net(steps, [None, 384], x)
    assert [".body/" in name for name in made.low.nodes] == [True]
    before, after = made.before(x=x)["y"], made.after(x=x)["y"]
    assert 0 < np.abs(after - before).max() < 0.2 * before.std()


def test_sum_that_broadens_is_not_taken_for_a_bias(net):
    added = normal(3, 1, 256)
    x = normal(4, 128)
    made = net(lambda x: tf.matmul(x, W) + added, [None, 128], x)
    assert made.after(x=x)["y"].shape == (3, 4, 256)
    assert np.abs(made.after(x=x)["y"] - made.before(x=x)["y"]).max() < 0.1
