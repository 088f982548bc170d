"""What stays in float32 beside int8 products: the same numbers, with less arithmetic on shapes."""

import numpy as np
import pytest
import tensorflow as tf

WIDTH, HEADS = 8, 2


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


SMALL = [normal(WIDTH, WIDTH, seed=seed) for seed in range(4)]
LARGE = normal(WIDTH, 2**12, seed=9)


def split(x):
    shape = tf.shape(x)
    return tf.transpose(tf.reshape(x, [shape[0], shape[1], HEADS, WIDTH // HEADS]), [0, 2, 1, 3])


def joined(x):
    x = tf.transpose(x, [0, 2, 1, 3])
    shape = tf.shape(x)
    return tf.reshape(x, [shape[0], shape[1], WIDTH])


def attention(x):
    query, key, value = (split(tf.tensordot(x, weight, 1)) for weight in SMALL[:3])
    mixed = tf.matmul(tf.nn.softmax(tf.matmul(query, key, transpose_b=True)), value)
    return x + tf.tensordot(joined(mixed), SMALL[3], 1)


def beside_int8(function):
    """``function`` beside a product that becomes int8: without one a graph is refused."""
    return lambda x: {"y": function(x), "int8": tf.matmul(tf.reshape(x, [-1, WIDTH]), LARGE)}


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (0, 3), (2, 0)])
def test_attention_computes_each_shape_once(net, shape):
    made = net(beside_int8(lambda x: attention(attention(x))), [None, None, WIDTH], normal(2, 3, WIDTH))
    x = normal(*shape, WIDTH, seed=5)
    np.testing.assert_array_equal(made.after(x=x)["y"], made.before(x=x)["y"])
    assert made.ops["GatherV2"] == made.ops["ConcatV2"] == 0
    assert made.ops["Shape"] <= 6  # two sizes before each sum with what could be broadcast, of 22
    assert made.ops["Transpose"] == 8  # heads and positions really change places


def test_known_sizes_make_a_constant_shape_and_no_transposition(net):
    made = net(beside_int8(attention), [None, 1, WIDTH], normal(2, 1, WIDTH))
    for rows in (3, 0):
        x = normal(rows, 1, WIDTH, seed=5)
        np.testing.assert_array_equal(made.after(x=x)["y"], made.before(x=x)["y"])
    assert made.ops["Shape"] == made.ops["Pack"] == made.ops["Transpose"] == 0


def test_row_of_a_table_in_a_loop_has_at_most_one_position(net):
    table = normal(4, WIDTH, seed=7)

    def decode(x):
        def step(i, x):
            row = x[:, tf.newaxis] + tf.constant(table)[i:i + 1]
            return i + 1, tf.squeeze(attention(row), 1)
        return tf.while_loop(lambda i, x: i < 3, step, (0, x))[1]

    made = net(beside_int8(decode), [None, WIDTH], normal(2, WIDTH))
    x = normal(3, WIDTH, seed=5)
    np.testing.assert_array_equal(made.after(x=x)["y"], made.before(x=x)["y"])
    assert made.ops["Transpose"] == 0


def test_sizes_that_may_differ_are_not_taken_for_the_same(net):
    def function(x):
        # One row or as many as x has: the sum has as many as x, and its shape is its own.
        either = x[:tf.reduce_max(tf.cast(x[0, 0], tf.int32))]
        return tf.reshape(either + x, tf.shape(x)), tf.transpose(either, [1, 0])

    made = net(beside_int8(lambda x: function(x)[0]), [None, WIDTH], np.ones((3, WIDTH), np.float32))
    other = made.again()
    x = normal(3, WIDTH, seed=5)
    x[0, 0] = 1
    np.testing.assert_array_equal(other.after(x=x)["y"], made.before(x=x)["y"])
    made = net(beside_int8(lambda x: function(x)[1]), [None, WIDTH], np.ones((3, WIDTH), np.float32))
    x[0, 0] = 2
    np.testing.assert_array_equal(made.after(x=x)["y"], made.before(x=x)["y"])
    assert made.ops["Transpose"] == 1


def test_transposed_weight_is_stored_as_it_is_read(net):
    made = net(beside_int8(lambda x: tf.matmul(x, SMALL[0], transpose_b=True)), [None, WIDTH], normal(2, WIDTH))
    x = normal(3, WIDTH, seed=5)
    np.testing.assert_allclose(made.after(x=x)["y"], made.before(x=x)["y"], rtol=1e-5, atol=1e-5)
    products = [node for node in made.graph.graph_def.node if node.op == "MatMul"]
    assert [node.attr["transpose_b"].b for node in products] == [False]


def test_check_that_a_shape_waits_for_is_kept(net):
    def function(x):
        with tf.control_dependencies([tf.debugging.assert_less(tf.reduce_max(x), 9.0)]):
            shape = tf.identity(tf.shape(x))
        return tf.reshape(tf.nn.relu(x), [shape[0], shape[1], HEADS, WIDTH // HEADS])

    made = net(beside_int8(function), [None, None, WIDTH], normal(2, 3, WIDTH))
    assert made.ops["Assert"] == 1
