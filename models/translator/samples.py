"""Calibration and validation sentences: `python -m models.translator.samples --out calibration_data`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from models.command_line import write_to_out
from models.translator.corpus import Direction, Pair, read_pairs, split_pairs
from models.translator.tokenizer import TOKENIZER_ASSET, Tokenizer, pad_rows

MODELS = Path(__file__).parents[1]
CALIBRATION_SENTENCES = 256
VALIDATION_SENTENCES = 200
MAX_PIECES = 48


def choose(
    pairs: Sequence[Pair], tokenizer: Tokenizer, direction: Direction, count: int, seed: int
) -> np.ndarray:
    """Distinct source sentences as int64 (count, T): one of every length, the rest as they come.

    Interface strings are short; without the first pass the longest would hardly be met.
    """
    sources = sorted({pair.source(direction) for pair in pairs})
    rows = sorted({tuple(tokenizer.encode(source)) for source in sources})
    random = np.random.default_rng(seed)
    shuffled = [rows[index] for index in random.permutation(len(rows)) if len(rows[index]) <= MAX_PIECES]
    first_of_length: dict[int, tuple[int, ...]] = {}
    for row in shuffled:
        first_of_length.setdefault(len(row), row)
    chosen = list(first_of_length.values())
    others = [row for row in shuffled if first_of_length[len(row)] is not row]
    chosen += others[: count - len(chosen)]
    return pad_rows([chosen[index] for index in random.permutation(len(chosen))])


def write_samples(out: Path) -> None:
    """Writes DIRECTION.npz from the training split and DIRECTION_validation.npz from the test split."""
    splits = split_pairs(read_pairs())
    for direction in get_args(Direction):
        tokenizer = Tokenizer(MODELS / direction / "1" / TOKENIZER_ASSET)
        calibration = choose(splits["train"], tokenizer, direction, CALIBRATION_SENTENCES, seed=0)
        validation = choose(splits["test"], tokenizer, direction, VALIDATION_SENTENCES, seed=1)
        np.savez_compressed(out / f"{direction}.npz", input=calibration)
        np.savez_compressed(out / f"{direction}_validation.npz", input=validation)


if __name__ == "__main__":
    write_to_out(__doc__, write_samples)
