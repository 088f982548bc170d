"""The sentence pairs, and which of them training may see.

A pair's split follows from the md5 of its normalized English text, so it does not depend on the
order or the number of pairs, and all translations of one English string fall into one split.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PAIRS_FILE = Path(__file__).parents[1] / "data" / "enko_pairs.tsv"

# 93 % of this catalogue's pairs share a Korean string with at least two other English strings
# ("Affected Dashboards" and "a dashboard OR" are both given as "save dashboard"): guesses by a
# tool that nobody reviewed. They would teach wrong words and make the test measure them.
UNRELIABLE_PACKAGES = frozenset({"apache_superset-6.1.0"})

TEST_PERCENT = 3
DEV_PERCENT = 2

Direction = Literal["enko", "koen"]
Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Pair:
    """One string of a user interface, in both languages."""

    package: str
    english: str
    korean: str

    def source(self, direction: Direction) -> str:
        return self.english if direction == "enko" else self.korean

    def target(self, direction: Direction) -> str:
        return self.korean if direction == "enko" else self.english


def read_pairs(path: Path = PAIRS_FILE) -> list[Pair]:
    """All pairs of a file of `package<TAB>English<TAB>Korean` lines, unreliable packages left out."""
    with path.open(encoding="utf-8") as lines:
        pairs = [Pair(*line.rstrip("\n").split("\t")) for line in lines]
    return [pair for pair in pairs if pair.package not in UNRELIABLE_PACKAGES]


def normalize(text: str) -> str:
    """Only the words, in lower case: strings that differ in case or punctuation count as one."""
    return " ".join(re.findall(r"\w+", text.lower()))


def split_of(english: str) -> Split:
    """The split of an English string, the same on every machine and for every file."""
    bucket = int(hashlib.md5(normalize(english).encode("utf-8")).hexdigest(), 16) % 100
    if bucket < TEST_PERCENT:
        return "test"
    if bucket < TEST_PERCENT + DEV_PERCENT:
        return "dev"
    return "train"


def split_pairs(pairs: list[Pair]) -> dict[Split, list[Pair]]:
    """The pairs by split.

    The English strings of two splits are disjoint by construction. Different English strings may
    share a translation, so training also gives up the pairs whose Korean string was held out:
    otherwise Korean-to-English would be tested on sentences it had read.
    """
    splits: dict[Split, list[Pair]] = {"train": [], "dev": [], "test": []}
    for pair in pairs:
        splits[split_of(pair.english)].append(pair)
    test_korean = {normalize(pair.korean) for pair in splits["test"]}
    splits["dev"] = [pair for pair in splits["dev"] if normalize(pair.korean) not in test_korean]
    held_out = test_korean | {normalize(pair.korean) for pair in splits["dev"]}
    splits["train"] = [pair for pair in splits["train"] if normalize(pair.korean) not in held_out]
    return splits
