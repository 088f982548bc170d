"""The models that benchmarks run on: architectures that ship with Keras, weights at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

_SEED = 7


def resnet50(folder: Path) -> None:
    """ResNet50 at 224x224, batch free; batch norms carry the statistics of a few random images."""
    tf.keras.utils.set_random_seed(_SEED)
    model = tf.keras.applications.ResNet50(weights=None)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(tf.random.uniform([8, 224, 224, 3], -1, 1), training=True)

    @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32, name="image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image, training=False)}

    tf.saved_model.save(model, str(folder), signatures={"serving_default": serve})


class EncoderLayer(tf.keras.layers.Layer):
    """Self-attention and feed-forward as in BERT: post-norm, GELU."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (tf.keras.layers.Dense(width) for _ in range(4))
        self.inner, self.outer = tf.keras.layers.Dense(inner), tf.keras.layers.Dense(width)
        self.norms = [tf.keras.layers.LayerNormalization(epsilon=1e-12) for _ in range(2)]

    def split(self, x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)
        return tf.transpose(tf.reshape(x, [shape[0], shape[1], self.heads, self.size]), [0, 2, 1, 3])

    def call(self, x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(self.split(self.query(x)), self.split(self.key(x)), transpose_b=True)
        weights = tf.nn.softmax(scores * self.size ** -0.5 + bias)
        mixed = tf.transpose(tf.matmul(weights, self.split(self.value(x))), [0, 2, 1, 3])
        x = self.norms[0](x + self.out(tf.reshape(mixed, tf.shape(x))))
        return self.norms[1](x + self.outer(tf.nn.gelu(self.inner(x))))


class Encoder(tf.Module):
    """BERT-base's shape by default: 12 layers of width 768, 30,522 words, 109 M parameters."""

    def __init__(self, words: int = 30522, width: int = 768, heads: int = 12, inner: int = 3072, layers: int = 12,
                 longest: int = 512) -> None:
        super().__init__()
        self.words = tf.Variable(tf.random.normal([words, width], stddev=0.02))
        self.places = tf.Variable(tf.random.normal([longest, width], stddev=0.02))
        self.norm = tf.keras.layers.LayerNormalization(epsilon=1e-12)
        self.layers = [EncoderLayer(width, heads, inner) for _ in range(layers)]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="input_ids"),
                                  tf.TensorSpec([None, None], tf.int32, name="attention_mask")])
    def serve(self, input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """ids and mask int32 (batch, length) -> last_hidden_state float32 (batch, length, width)."""
        x = self.norm(tf.gather(self.words, input_ids) + self.places[:tf.shape(input_ids)[1]])
        bias = (1.0 - tf.cast(attention_mask, tf.float32))[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        return {"last_hidden_state": x}


def bert_base(folder: Path) -> None:
    """A BERT-base-like encoder, batch and length free."""
    tf.keras.utils.set_random_seed(_SEED)
    encoder = Encoder()
    encoder.serve(tf.ones([1, 4], tf.int32), tf.ones([1, 4], tf.int32))
    tf.saved_model.save(encoder, str(folder), signatures={"serving_default": encoder.serve})


def images(count: int, seed: int) -> dict[str, np.ndarray]:
    """Smooth random images in [-1, 1], float32 (count, 224, 224, 3)."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(-1, 1, (count, 14, 14, 3)).astype(np.float32)
    return {"image": np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)}


def sentences(count: int, seed: int, longest: int = 128) -> dict[str, np.ndarray]:
    """Random ids of random lengths with their mask, int32 (count, longest), padded with 0."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(longest // 4, longest + 1, count)
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int32)
    return {"input_ids": generator.integers(1000, 30000, (count, longest), dtype=np.int32) * mask,
            "attention_mask": mask}
