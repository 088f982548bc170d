"""What differs between the original's output and a candidate's on one sample, piece by piece, for a reader."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trt_pipeline.parity.excerpt import Excerpt, Value, WorstSample

# A word with the space before it; scripts that put no spaces between words go by character.
_WORDS = re.compile(r"\s*(?:[\u2e80-\u9fff\uf900-\ufaff]|[^\s\u2e80-\u9fff\uf900-\ufaff]+)|\s+$")
_MOST_ELEMENTS = 5
_MOST_EQUAL = 3


@dataclass(frozen=True)
class Piece:
    """Part of one side; ``differs`` where the other side has something else, or nothing, in its place."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Element:
    """One element of which both sides are numbers."""

    index: tuple[int, ...]
    expected: str
    got: str
    error: str


@dataclass(frozen=True)
class Difference:
    """Both sides of one sample, marked up.

    ``expected`` and ``got`` are the decoded texts where there are any, else the elements of the excerpt one by one;
    of floats, which nearly all differ by a little, ``elements`` has those that differ most, and the sides are empty.
    """

    expected: tuple[Piece, ...]
    got: tuple[Piece, ...]
    elements: tuple[Element, ...]
    decoded: bool
    """Whether the sides are text; they may be equal where only what no text shows differs."""


def of(sample: WorstSample) -> Difference:
    """What differs in ``sample``."""
    expected, got = sample.expected, sample.got
    if expected.text is not None and got.text is not None:
        before, after = _texts(expected.text, got.text)
        return Difference(before, after, (), decoded=True)
    if "float" in expected.dtype and expected.shape == got.shape and math.prod(expected.shape) > 1:
        return Difference((), (), _elements(expected, got), decoded=False)
    return values(sample)


def shown(excerpt: Excerpt) -> str:
    """The text of ``excerpt``, or its values with its dtype and shape."""
    if excerpt.text is not None:
        return excerpt.text
    count = math.prod(excerpt.shape)
    before, after = "… " if excerpt.start else "", " …" if excerpt.start + len(excerpt.values) < count else ""
    listed = _listed(excerpt.values)
    return listed if not excerpt.shape else f"{before}{listed}{after} ({excerpt.dtype} {list(excerpt.shape)})"


def values(sample: WorstSample) -> Difference:
    """The same by the elements alone, whatever text they stand for."""
    pairs = list(itertools.zip_longest(sample.expected.values, sample.got.values))
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for differs, run in itertools.groupby(pairs, key=lambda pair: pair[0] != pair[1]):
        together = list(run)
        for side, pieces in enumerate(sides):
            known = [value for pair in together if (value := pair[side]) is not None]
            if known and pieces:
                pieces.append(Piece(", ", False))
            if known:
                pieces.append(Piece(_listed(known), differs))
    return Difference(tuple(sides[0]), tuple(sides[1]), (), decoded=False)


def _texts(expected: str, got: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    sides = _WORDS.findall(expected), _WORDS.findall(got)
    stripped = [[word.strip() for word in side] for side in sides]
    found: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, *ends in difflib.SequenceMatcher(a=stripped[0], b=stripped[1], autojunk=False).get_opcodes():
        for words, pieces, (begin, end) in zip(sides, found, (ends[:2], ends[2:]), strict=True):
            text = "".join(words[begin:end])
            space = len(text) - len(text.lstrip())
            parts = (text[:space], False), (text[space:], kind != "equal")
            pieces.extend(Piece(part, differs) for part, differs in parts if part)
    return tuple(found[0]), tuple(found[1])


def _elements(expected: Excerpt, got: Excerpt) -> tuple[Element, ...]:
    """Up to five of the elements, those that differ most first; what is no number differs most of all."""
    errors = [(_error(a, b), place) for place, (a, b) in enumerate(zip(expected.values, got.values, strict=False))
              if a != b]
    errors.sort(key=lambda pair: -pair[0])
    return tuple(Element(index=tuple(int(i) for i in np.unravel_index(expected.start + place, expected.shape or (1,)))
                         if expected.shape else (), expected=_number(expected.values[place]),
                         got=_number(got.values[place]), error="" if math.isinf(error) else f"{error:.3g}")
                 for error, place in errors[:_MOST_ELEMENTS])


def _error(expected: Value, got: Value) -> float:
    if isinstance(expected, str) or isinstance(got, str):
        return math.inf
    return abs(float(got) - float(expected))


def _listed(values: Sequence[Value]) -> str:
    """``values`` one after the other; those of the same kind at the end, as padding is, are counted."""
    runs = [(value, len(list(run))) for value, run in itertools.groupby(_number(value) for value in values)]
    *before, (last, count) = runs or [("", 0)]
    words = [value for value, often in before for _ in range(often)]
    return ", ".join([*words, f"{last} ({count} times)"] if count > _MOST_EQUAL else [*words, *[last] * count])


def _number(value: Value) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
