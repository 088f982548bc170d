"""What differs between two outputs, piece by piece."""

from __future__ import annotations

import pytest

from trt_pipeline.parity.excerpt import Excerpt, Value, WorstSample
from trt_pipeline.report import differences
from trt_pipeline.report.differences import Piece


def texts(expected: str, got: str) -> WorstSample:
    sides = [Excerpt(dtype="int32", shape=(1,), values=(len(text),), text=text) for text in (expected, got)]
    return WorstSample(sample=0, case="batch 1", excess=2.0, expected=sides[0], got=sides[1])


def numbers(dtype: str, expected: tuple[Value, ...], got: tuple[Value, ...], start: int = 0) -> WorstSample:
    sides = [Excerpt(dtype=dtype, shape=(start + len(values),), values=values, start=start)
             for values in (expected, got)]
    return WorstSample(sample=0, case="batch 1", excess=None, expected=sides[0], got=sides[1])


def differing(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.text for piece in pieces if piece.differs]


@pytest.mark.parametrize(("expected", "got", "left", "right"), [
    ("one two three", "one 2 three", ["two"], ["2"]),
    ("one two", "one two three", [], ["three"]),
    ("나는 학교에 간다", "나는 집에 간다", ["학교에"], ["집에"]),
    ("我去学校", "我去公园", ["学校"], ["公园"]),
    ("same", "same", [], []),
    ("", "word", [], ["word"]),
])
def test_texts_differ_by_words_and_lose_nothing(expected: str, got: str, left: list[str], right: list[str]) -> None:
    found = differences.of(texts(expected, got))
    assert found.decoded
    assert (differing(found.expected), differing(found.got)) == (left, right)
    assert "".join(piece.text for piece in found.expected) == expected
    assert "".join(piece.text for piece in found.got) == got


def test_ids_differ_by_place_and_padding_is_counted() -> None:
    found = differences.of(numbers("int32", (3, 4, 5, 0, 0, 0, 0), (3, 9, 5, 0, 0, 0, 0)))
    assert [piece.text for piece in found.expected] == ["3", ", ", "4", ", ", "5, 0 (4 times)"]
    assert differing(found.got) == ["9"]


def test_of_floats_the_farthest_elements_come_first_with_their_index() -> None:
    found = differences.of(numbers("float32", (1.0, 2.0, 3.0, 4.0), (1.0, 2.5, "nan", 4.01), start=64))
    assert [(one.index, one.got, one.error) for one in found.elements] == [
        ((66,), "nan", ""), ((65,), "2.5", "0.5"), ((67,), "4.01", "0.01")]
    assert not found.expected


def test_a_single_float_needs_no_table() -> None:
    one, other = (Excerpt(dtype="float32", shape=(), values=(value,)) for value in (-1.5, -2.0))
    found = differences.of(WorstSample(sample=1, case="batch 1", excess=1.2, expected=one, got=other))
    assert (differing(found.expected), differing(found.got)) == (["-1.5"], ["-2"])


def test_what_is_shown_of_a_long_tensor_says_that_it_is_a_part() -> None:
    part = Excerpt(dtype="int64", shape=(2, 100), values=(7, 8), start=50)
    assert differences.shown(part) == "… 7, 8 … (int64 [2, 100])"
    assert differences.shown(Excerpt(dtype="bool", shape=(), values=(True,))) == "True"
