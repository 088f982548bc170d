"""SavedModels whose signatures begin, end or are interrupted by what only TensorFlow on the host can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.conversion.tftrt.builders import numbers, save, variable

WORDS = ("the", "cat", "sat", "on", "mat", "dog")
LABELS = ("animal", "place", "nothing")
TEXTS = np.array([b"the cat sat", b"a dog", b"on the mat the cat", b""], dtype=object)
_UNKNOWN = 2
_WIDTH = 16


class Words(tf.Module):
    """Words through a vocabulary file, an embedding and a layer, to a label's name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
        line, text = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        self.vocabulary = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(str(folder / "vocab.txt"), tf.string, text, tf.int64, line), _UNKNOWN)
        self.labels = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(str(folder / "labels.txt"), tf.int64, line, tf.string, text), "?")
        self.embedding = variable(len(WORDS) + _UNKNOWN, _WIDTH, seed=1)
        self.hidden, self.kernel = variable(_WIDTH, _WIDTH, seed=2), variable(_WIDTH, len(LABELS), seed=3)

    def label(self, text: Any) -> dict[str, Any]:
        """Texts string [N] -> label string [N], scores float32 [N, 3], length int64 [N]."""
        words = tf.strings.split(text).to_tensor("")
        present = tf.not_equal(words, "")
        ids = self.vocabulary.lookup(words)
        mask = tf.cast(present, tf.float32)[..., tf.newaxis]
        embedded = tf.gather(self.embedding, ids) * mask
        hidden = tf.nn.relu(tf.reduce_sum(embedded, 1) @ self.hidden)
        scores = tf.nn.softmax(hidden @ self.kernel)
        return {"label": self.labels.lookup(tf.argmax(scores, -1)), "scores": scores,
                "length": tf.reduce_sum(tf.cast(present, tf.int64), 1)}

    def tokens(self, tokens: Any) -> dict[str, Any]:
        """Words string [N, 3], so that no shape is left to chance -> scores float32 [N, 3], id int64 [N]."""
        embedded = tf.gather(self.embedding, self.vocabulary.lookup(tokens))
        count = tf.cast(tf.shape(tokens)[1], tf.float32)
        scores = tf.nn.softmax(tf.nn.relu(tf.reduce_sum(embedded, 1) / count @ self.hidden) @ self.kernel)
        return {"scores": scores, "id": tf.argmax(scores, -1)}


def strings(*shape: int | None, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.string, name)


def words(folder: Path) -> Path:
    """The signatures `label` and `tokens`, and `plain`, which needs no host."""
    module = Words(folder)

    def plain(x: Any) -> dict[str, Any]:
        return {"y": x @ module.kernel}

    return save(folder / "model", module, label=(module.label, [strings(None, name="text")]),
                tokens=(module.tokens, [strings(None, 3, name="tokens")]),
                plain=(plain, [tf.TensorSpec([None, _WIDTH], name="x")]))


def one(folder: Path, call: Callable[..., Any], *specs: tf.TensorSpec) -> Path:
    """A SavedModel of one signature without variables."""
    return save(folder / "model", tf.Module(), serving_default=(call, list(specs)))


def interrupted(x: Any) -> dict[str, Any]:
    """Numbers that become text between a small layer and a large one."""
    small = tf.nn.relu(x @ numbers(4, 20, seed=4))
    read = tf.strings.to_number(tf.strings.as_string(small, precision=4))
    return {"y": tf.nn.relu(read @ numbers(20, 64, seed=5)) @ numbers(64, 8, seed=6)}


def looped(weighted: bool) -> Callable[[Any], dict[str, Any]]:
    """A loop over rows that reads text; with weights inside, or behind it."""

    def row(text: Any) -> Any:
        read = tf.ensure_shape(tf.strings.to_number(tf.strings.split(text, " ")), [4])
        return read[tf.newaxis] @ numbers(4, 20, seed=7) if weighted else read[tf.newaxis]

    def call(text: Any) -> dict[str, Any]:
        read = tf.map_fn(row, text, fn_output_signature=tf.TensorSpec([1, 20 if weighted else 4]))
        return {"y": read if weighted else tf.reshape(read, [-1, 4]) @ numbers(4, 20, seed=7)}

    return call
