"""The parts of a Transformer, as tf.Modules. All tensors are float32 unless said otherwise."""

from __future__ import annotations

import math

import tensorflow as tf

# Added to attention logits where a query must not look. Finite, so that a row with nothing to
# look at gives numbers and not NaN.
MASKED = -1e9


class Dense(tf.Module):
    """(..., inputs) -> (..., outputs)"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        limit = (6.0 / (inputs + outputs)) ** 0.5
        self.kernel = tf.Variable(tf.random.uniform([inputs, outputs], -limit, limit), name="kernel")
        self.bias = tf.Variable(tf.zeros([outputs]), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(x, self.kernel, 1) + self.bias


class LayerNorm(tf.Module):
    """Normalizes the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = tf.Variable(tf.ones([width]), name="scale")
        self.offset = tf.Variable(tf.zeros([width]), name="offset")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-6) * self.scale + self.offset


class FeedForward(tf.Module):
    """(..., width) -> (..., width) through a wider ReLU layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = Dense(width, hidden)
        self.contract = Dense(hidden, width)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.contract(tf.nn.relu(self.expand(x)))


class Attention(tf.Module):
    """Multi-head attention whose keys and values are computed apart, so that they can be cached."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.size = width // heads
        self.query = Dense(width, width)
        self.key = Dense(width, width)
        self.value = Dense(width, width)
        self.output = Dense(width, width)

    def split_heads(self, x: tf.Tensor) -> tf.Tensor:
        """(N, T, width) -> (N, heads, T, size)"""
        shape = tf.shape(x)
        return tf.transpose(tf.reshape(x, [shape[0], shape[1], self.heads, self.size]), [0, 2, 1, 3])

    def keys_values(self, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What can be looked at: (N, T, width) -> two of (N, heads, T, size)"""
        return self.split_heads(self.key(memory)), self.split_heads(self.value(memory))

    def __call__(self, x: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """(N, Q, width) looks at (N, heads, T, size); `bias` broadcasts to (N, heads, Q, T)."""
        queries = self.split_heads(self.query(x)) * self.size**-0.5
        weights = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) + bias)
        mixed = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])
        shape = tf.shape(mixed)
        return self.output(tf.reshape(mixed, [shape[0], shape[1], self.heads * self.size]))


def positions(count: tf.Tensor, width: int) -> tf.Tensor:
    """Sinusoids (count, width), computed and not stored: no longest sentence, a smaller file."""
    half = width // 2
    rates = tf.exp(tf.range(half, dtype=tf.float32) * (-math.log(10000.0) / half))
    angles = tf.cast(tf.range(count), tf.float32)[:, tf.newaxis] * rates[tf.newaxis, :]
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=1)


def padding_bias(ids: tf.Tensor, pad: int) -> tf.Tensor:
    """Ids (N, T) -> (N, 1, 1, T), MASKED at padding and 0 elsewhere."""
    return tf.cast(tf.equal(ids, pad), tf.float32)[:, tf.newaxis, tf.newaxis, :] * MASKED


def causal_bias(count: tf.Tensor) -> tf.Tensor:
    """(count, count), MASKED where a position would look at a later one."""
    return (1.0 - tf.linalg.band_part(tf.ones([count, count]), -1, 0)) * MASKED
