"""A small encoder-decoder Transformer: pre-norm layers, one embedding table for everything."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from models.translator.layers import Attention, FeedForward, LayerNorm, causal_bias, padding_bias, positions
from models.translator.tokenizer import PAD

# Keys and values of one attention, each (N, heads, T, size).
KeysValues = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class Size:
    """The numbers that fix the shape of every variable."""

    vocabulary: int
    width: int = 128
    heads: int = 4
    hidden: int = 512
    layers: int = 2


class EncoderLayer(tf.Module):
    """(N, S, width) -> (N, S, width)"""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm_self = LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.norm_feed = LayerNorm(size.width)
        self.feed = FeedForward(size.width, size.hidden)

    def __call__(self, x: tf.Tensor, bias: tf.Tensor, dropout: float) -> tf.Tensor:
        normed = self.norm_self(x)
        x += drop(self.attention(normed, *self.attention.keys_values(normed), bias), dropout)
        return x + drop(self.feed(self.norm_feed(x)), dropout)


class DecoderLayer(tf.Module):
    """(N, T, width) -> (N, T, width), looking at earlier positions and at the source."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm_self = LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.norm_source = LayerNorm(size.width)
        self.source_attention = Attention(size.width, size.heads)
        self.norm_feed = LayerNorm(size.width)
        self.feed = FeedForward(size.width, size.hidden)

    def __call__(
        self,
        x: tf.Tensor,
        past: KeysValues | None,
        bias: tf.Tensor,
        source: KeysValues,
        source_bias: tf.Tensor,
        dropout: float = 0.0,
    ) -> tuple[tf.Tensor, KeysValues]:
        """The layer's output, and its keys and values with those of `past` before them."""
        normed = self.norm_self(x)
        keys, values = self.attention.keys_values(normed)
        if past is not None:
            keys, values = tf.concat([past[0], keys], 2), tf.concat([past[1], values], 2)
        x += drop(self.attention(normed, keys, values, bias), dropout)
        x += drop(self.source_attention(self.norm_source(x), *source, source_bias), dropout)
        return x + drop(self.feed(self.norm_feed(x)), dropout), (keys, values)


class Transformer(tf.Module):
    """Ids to logits; all it knows of search is `step`, one more position with cached keys.

    Decoder position t reads token t-1; position 0 reads PAD, whose embedding thereby is the start.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embedding = tf.Variable(
            tf.random.normal([size.vocabulary, size.width], stddev=size.width**-0.5), name="embedding"
        )
        self.encoder = [EncoderLayer(size) for _ in range(size.layers)]
        self.decoder = [DecoderLayer(size) for _ in range(size.layers)]
        self.norm_encoder = LayerNorm(size.width)
        self.norm_decoder = LayerNorm(size.width)

    def embed(self, ids: tf.Tensor) -> tf.Tensor:
        """Ids (N, T) -> (N, T, width), without positions."""
        return tf.gather(self.embedding, ids) * self.size.width**0.5

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """(N, width) -> (N, vocabulary)"""
        return tf.matmul(hidden, self.embedding, transpose_b=True)

    def encode(self, source: tf.Tensor, dropout: float = 0.0) -> tuple[tf.Tensor, tf.Tensor]:
        """Ids (N, S) -> memory (N, S, width) and its padding bias (N, 1, 1, S)."""
        bias = padding_bias(source, PAD)
        x = drop(self.embed(source) + positions(tf.shape(source)[1], self.size.width), dropout)
        for layer in self.encoder:
            x = layer(x, bias, dropout)
        return self.norm_encoder(x), bias

    def source_keys_values(self, memory: tf.Tensor) -> list[KeysValues]:
        """The source as each decoder layer sees it; does not change while decoding."""
        return [layer.source_attention.keys_values(memory) for layer in self.decoder]

    def decode(self, source: tf.Tensor, target: tf.Tensor, dropout: float) -> tf.Tensor:
        """Teacher forcing: source ids (N, S), target ids (N, T) -> hidden states (N, T, width)."""
        memory, source_bias = self.encode(source, dropout)
        previous = tf.pad(target, [[0, 0], [1, 0]], constant_values=PAD)[:, :-1]
        count = tf.shape(target)[1]
        bias = causal_bias(count)
        x = drop(self.embed(previous) + positions(count, self.size.width), dropout)
        for layer, source_kv in zip(self.decoder, self.source_keys_values(memory), strict=True):
            x, _ = layer(x, None, bias, source_kv, source_bias, dropout)
        return self.norm_decoder(x)

    def step(
        self,
        previous: tf.Tensor,
        position: tf.Tensor,
        past: list[KeysValues],
        source: list[KeysValues],
        source_bias: tf.Tensor,
    ) -> tuple[tf.Tensor, list[KeysValues]]:
        """Previous ids (N,), position (1, width) -> logits (N, vocabulary) and the longer past."""
        x = self.embed(previous[:, tf.newaxis]) + position
        grown = []
        for layer, layer_past, layer_source in zip(self.decoder, past, source, strict=True):
            x, kept = layer(x, layer_past, tf.constant(0.0), layer_source, source_bias)
            grown.append(kept)
        return self.logits(tf.squeeze(self.norm_decoder(x), 1)), grown


def drop(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Dropout that leaves nothing in the graph when the rate is 0, as it is in inference."""
    return tf.nn.dropout(x, rate) if rate else x
