"""How good a SavedModel's translations of held-out strings are: `python -m models.translator.evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import sacrebleu
import tensorflow as tf

from models.translator.corpus import Direction, read_pairs, split_pairs
from models.translator.export import SIGNATURE
from models.translator.tokenizer import TOKENIZER_ASSET, Tokenizer, pad_rows


class Translator:
    """Text to text through a SavedModel's signature and the tokenizer that lies beside it."""

    def __init__(self, saved_model: Path) -> None:
        self.loaded = tf.saved_model.load(str(saved_model))  # owns the variables
        self.signature = self.loaded.signatures[SIGNATURE]
        self.tokenizer = Tokenizer(saved_model / TOKENIZER_ASSET)

    def __call__(self, texts: Sequence[str], batch_size: int = 32) -> list[str]:
        rows = [self.tokenizer.encode(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        translations = [""] * len(rows)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids = tf.constant(pad_rows([rows[index] for index in chosen]))
            outputs = self.signature(input=ids)["outputs"].numpy()
            for index, output in zip(chosen, outputs, strict=True):
                translations[index] = self.tokenizer.decode(output.tolist())
        return translations


@dataclass(frozen=True)
class Quality:
    """Corpus scores in percent, and the sacrebleu signatures that say how they were counted."""

    strings: int
    chrf: float
    bleu: float
    exact: float
    chrf_signature: str
    bleu_signature: str


def score(translations: Sequence[str], references: Sequence[str]) -> Quality:
    """Scores translations against one reference each."""
    chrf, bleu = sacrebleu.CHRF(), sacrebleu.BLEU()
    chrf_score = chrf.corpus_score(translations, [references]).score
    bleu_score = bleu.corpus_score(translations, [references]).score
    same = sum(a == b for a, b in zip(translations, references, strict=True))
    return Quality(
        strings=len(references),
        chrf=chrf_score,
        bleu=bleu_score,
        exact=100.0 * same / len(references),
        chrf_signature=str(chrf.get_signature()),
        bleu_signature=str(bleu.get_signature()),
    )


def evaluate(saved_model: Path, direction: Direction, samples: int = 0) -> Quality:
    """Scores a SavedModel on the whole test split, and prints the first `samples` translations."""
    pairs = split_pairs(read_pairs())["test"]
    translations = Translator(saved_model)([pair.source(direction) for pair in pairs])
    for pair, translation in list(zip(pairs, translations, strict=True))[:samples]:
        print(f"{pair.source(direction)}  =>  {translation}  [{pair.target(direction)}]")
    return score(translations, [pair.target(direction) for pair in pairs])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a SavedModel directory")
    parser.add_argument("--direction", choices=get_args(Direction), required=True)
    parser.add_argument("--samples", type=int, default=0, help="translations to print")
    arguments = parser.parse_args()
    print(evaluate(arguments.model, arguments.direction, arguments.samples))


if __name__ == "__main__":
    main()
