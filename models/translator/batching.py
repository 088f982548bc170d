"""Batches of similar length, each about as much work as the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.translator.corpus import Direction, Pair
from models.translator.tokenizer import Tokenizer, pad_rows

MAX_PIECES = 64
WIDTH_MULTIPLE = 4


@dataclass(frozen=True)
class Example:
    """One pair as ids, both sides EOS-ended."""

    source: list[int]
    target: list[int]

    @property
    def width(self) -> int:
        return max(len(self.source), len(self.target))


@dataclass(frozen=True)
class Batch:
    """`source` int64 (N, S) and `target` int64 (N, T), zero padded."""

    source: np.ndarray
    target: np.ndarray


def encode_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer, direction: Direction) -> list[Example]:
    """The pairs as ids; the few longer than MAX_PIECES on either side are left out."""
    examples = [
        Example(tokenizer.encode(pair.source(direction)), tokenizer.encode(pair.target(direction)))
        for pair in pairs
    ]
    return [example for example in examples if example.width <= MAX_PIECES]


def make_batches(
    examples: Sequence[Example], tokens_per_batch: int, random: np.random.Generator
) -> list[Batch]:
    """One epoch in random order; rows x padded width stays within `tokens_per_batch`.

    The order among examples of one length is drawn anew, so that batches differ between epochs.
    """
    shuffled = [examples[index] for index in random.permutation(len(examples))]
    by_width = sorted(shuffled, key=lambda example: (example.width, len(example.target)))
    groups: list[list[Example]] = [[]]
    for example in by_width:
        if (len(groups[-1]) + 1) * example.width > tokens_per_batch:
            groups.append([])
        groups[-1].append(example)
    batches = [
        Batch(
            pad_rows([example.source for example in group], WIDTH_MULTIPLE),
            pad_rows([example.target for example in group], WIDTH_MULTIPLE),
        )
        for group in groups
        if group
    ]
    return [batches[index] for index in random.permutation(len(batches))]
