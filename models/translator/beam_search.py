"""Beam search inside the graph: a tf.while_loop over key/value caches that grow by one a step.

Every row of a batch is searched as if it were alone: its length limit comes from its own tokens,
and once all of its beams are finished it only emits PAD while longer rows go on.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from models.translator.layers import MASKED, positions
from models.translator.tokenizer import EOS, PAD, UNKNOWN
from models.translator.transformer import KeysValues, Transformer

BEAMS = 4
LENGTH_PENALTY = 0.6
LONGEST_OUTPUT = 256


class Beams(NamedTuple):
    """The state of a search over N rows with K beams each."""

    step: tf.Tensor  # int32 ()
    tokens: tf.Tensor  # int32 (N, K, step), PAD after EOS
    log_probs: tf.Tensor  # float32 (N, K), best beam first
    lengths: tf.Tensor  # int32 (N, K), tokens up to and with EOS
    ended: tf.Tensor  # bool (N, K), EOS was emitted
    past: list[KeysValues]  # per decoder layer, each (N * K, heads, step, size)


def length_limits(source: tf.Tensor) -> tf.Tensor:
    """How many tokens a row may emit: source ids (N, S) -> int32 (N,); 0 for a row of padding."""
    counts = tf.reduce_sum(tf.cast(tf.not_equal(source, PAD), tf.int32), 1)
    limits = tf.minimum(2 * counts + 10, LONGEST_OUTPUT)
    return tf.where(counts > 0, limits, tf.zeros_like(limits))


def beam_search(model: Transformer, source: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Source ids int32 (N, S) -> the best translation int32 (N, T) and its score float32 (N,)."""
    rows = tf.shape(source)[0]
    limits = length_limits(source)
    memory, source_bias = model.encode(source)
    source_bias = tf.repeat(source_bias, BEAMS, 0)
    source_kv = [
        (tf.repeat(keys, BEAMS, 0), tf.repeat(values, BEAMS, 0))
        for keys, values in model.source_keys_values(memory)
    ]
    position_table = positions(LONGEST_OUTPUT, model.size.width)

    def is_frozen(beams: Beams) -> tf.Tensor:
        """Bool (N, K): beams that may only emit PAD."""
        return tf.logical_or(beams.ended, (beams.step >= limits)[:, tf.newaxis])

    def unfinished(*state: tf.Tensor) -> tf.Tensor:
        return tf.logical_not(tf.reduce_all(is_frozen(Beams(*state))))

    def advance(*state: tf.Tensor) -> Beams:
        beams = Beams(*state)
        frozen = is_frozen(beams)
        # Before the first step there is no last token; a column of PAD stands for it.
        history = tf.pad(beams.tokens, [[0, 0], [0, 0], [1, 0]], constant_values=PAD)
        previous = tf.reshape(history[:, :, -1], [-1])
        position = position_table[beams.step : beams.step + 1]
        logits, past = model.step(previous, position, beams.past, source_kv, source_bias)

        vocabulary = model.size.vocabulary
        choices = tf.reshape(tf.nn.log_softmax(logits), [rows, BEAMS, vocabulary])
        only_pad = tf.one_hot(PAD, vocabulary, on_value=0.0, off_value=MASKED)
        never = tf.one_hot([PAD, UNKNOWN], vocabulary, on_value=MASKED, off_value=0.0)
        choices = tf.where(frozen[:, :, tf.newaxis], only_pad, choices + tf.reduce_sum(never, 0))
        totals = tf.reshape(beams.log_probs[:, :, tf.newaxis] + choices, [rows, BEAMS * vocabulary])
        log_probs, best = tf.math.top_k(totals, BEAMS)
        parents, emitted = best // vocabulary, best % vocabulary

        def inherit(values: tf.Tensor) -> tf.Tensor:
            return tf.gather(values, parents, batch_dims=1)

        flat_parents = tf.reshape(parents + tf.range(rows)[:, tf.newaxis] * BEAMS, [-1])
        return Beams(
            step=beams.step + 1,
            tokens=tf.concat([inherit(beams.tokens), emitted[:, :, tf.newaxis]], 2),
            log_probs=log_probs,
            lengths=inherit(beams.lengths) + tf.cast(tf.logical_not(inherit(frozen)), tf.int32),
            ended=tf.logical_or(inherit(beams.ended), tf.equal(emitted, EOS)),
            past=[(tf.gather(keys, flat_parents), tf.gather(values, flat_parents)) for keys, values in past],
        )

    heads, size = model.size.heads, model.size.width // model.size.heads
    nothing = tf.zeros([rows * BEAMS, heads, 0, size])
    per_beam = tf.TensorShape([None, BEAMS])
    cache = tf.TensorShape([None, heads, None, size])
    first = Beams(
        step=tf.constant(0),
        tokens=tf.zeros([rows, BEAMS, 0], tf.int32),
        # All beams start alike, so only the first may count, or all would stay alike.
        log_probs=tf.tile(tf.constant([[0.0] + [MASKED] * (BEAMS - 1)]), [rows, 1]),
        lengths=tf.zeros([rows, BEAMS], tf.int32),
        ended=tf.zeros([rows, BEAMS], tf.bool),
        past=[(nothing, nothing) for _ in model.decoder],
    )
    invariants = Beams(
        step=tf.TensorShape([]),
        tokens=tf.TensorShape([None, BEAMS, None]),
        log_probs=per_beam,
        lengths=per_beam,
        ended=per_beam,
        past=[(cache, cache) for _ in model.decoder],
    )
    last = Beams(*tf.while_loop(unfinished, advance, first, shape_invariants=invariants))
    return choose(last)


def choose(beams: Beams) -> tuple[tf.Tensor, tf.Tensor]:
    """The beam with the best length-normalized score; one cut at its limit only if none ended."""
    penalty = tf.pow((5.0 + tf.cast(beams.lengths, tf.float32)) / 6.0, LENGTH_PENALTY)
    scores = beams.log_probs / penalty
    any_ended = tf.reduce_any(beams.ended, 1, keepdims=True)
    eligible = tf.logical_or(beams.ended, tf.logical_not(any_ended))
    best = tf.argmax(tf.where(eligible, scores, MASKED), 1, output_type=tf.int32)
    return tf.gather(beams.tokens, best, batch_dims=1), tf.gather(scores, best, batch_dims=1)
