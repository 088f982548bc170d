"""The joint SentencePiece vocabulary of both languages, and sentences as rows of ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from models.translator.corpus import Pair

PAD = 0
EOS = 1
UNKNOWN = 2
VOCABULARY_SIZE = 6000

# Where the tokenizer lies inside a SavedModel. `assets.extra` is the folder TensorFlow reserves
# for files that travel with a model without being part of its graph.
TOKENIZER_ASSET = Path("assets.extra") / "spm.model"


class Tokenizer:
    """Text to ids and back; an encoded sentence always ends in EOS."""

    def __init__(self, model_file: Path) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(model_file))

    @property
    def size(self) -> int:
        return int(self._pieces.get_piece_size())

    def encode(self, text: str) -> list[int]:
        return [*self._pieces.encode(text), EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids before the first EOS."""
        kept: list[int] = []
        for token in ids:
            if token == EOS:
                break
            if token > UNKNOWN:
                kept.append(int(token))
        return str(self._pieces.decode(kept))


def train_tokenizer(pairs: Sequence[Pair], model_file: Path) -> Tokenizer:
    """Learns one unigram vocabulary from both sides of the pairs and writes it to `model_file`."""
    texts = [text for pair in pairs for text in (pair.english, pair.korean)]
    with model_file.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=writer,
            model_type="unigram",
            vocab_size=VOCABULARY_SIZE,
            character_coverage=0.9998,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNKNOWN,
            bos_id=-1,
            num_threads=1,  # more threads sum in another order, which can change the vocabulary
            minloglevel=2,
        )
    return Tokenizer(model_file)


def pad_rows(rows: Sequence[Sequence[int]], multiple: int = 1) -> np.ndarray:
    """Rows of ids as one int64 (N, T) array, PAD on the right, T a multiple of `multiple`."""
    longest = max((len(row) for row in rows), default=0)
    width = -(-longest // multiple) * multiple
    array = np.full((len(rows), width), PAD, np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array
