"""Inputs typed on a command line become arrays of the signature's dtypes; nothing in them is executed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_pipeline.errors import InputError
from trt_pipeline.expressions import parse
from trt_pipeline.model.contract import Shape, SignatureContract, TensorContract


def signature(**inputs: tuple[str, Shape | None]) -> SignatureContract:
    tensors = {name: TensorContract(dtype=dtype, shape=shape) for name, (dtype, shape) in inputs.items()}
    return SignatureContract(name="serve", method_name="", inputs=tensors, outputs={})


IDS = signature(input=("int64", (None, None)))
TEXT = signature(names=("string", (None,)))
TWO = signature(a=("float32", (None,)), b=("int32", (None,)))


def value(dtype: str, literal: str, shape: Shape | None = (None,)) -> np.ndarray:
    return parse([f"x={literal}"], signature(x=(dtype, shape)))["x"]


def complaint(*expressions: str, given: SignatureContract = IDS) -> str:
    with pytest.raises(InputError) as caught:
        parse(list(expressions), given)
    return str(caught.value)


def test_a_list_of_lists_is_an_array_of_the_signature_s_dtype() -> None:
    got = parse(["input=[[26228, 145, 178, 1, 0, 0, 0]]"], IDS)["input"]
    assert (got.dtype, got.tolist()) == (np.int64, [[26228, 145, 178, 1, 0, 0, 0]])


@pytest.mark.parametrize("expressions", [["a=[1];b=[2]"], ["a=[1]", "b=[2]"], [" a = [1] ; b=[2] ; "]])
def test_several_inputs_are_split_by_semicolons_or_repeated(expressions: list[str]) -> None:
    got = parse(expressions, TWO)
    assert {name: (array.dtype, array.tolist()) for name, array in got.items()} == {
        "a": (np.float32, [1.0]), "b": (np.int32, [2])}


def test_no_expression_is_no_input() -> None:
    assert parse([], IDS) == {}


@pytest.mark.parametrize(("literal", "texts"), [
    ("['번역', '']", ["번역", ""]), ("[b'\\x00\\xff']", [b"\x00\xff"]), ("['a=b']", ["a=b"])])
def test_strings(literal: str, texts: list[Any]) -> None:
    got = parse([f"names={literal}"], TEXT)["names"]
    assert (got.dtype, got.tolist()) == (np.dtype(object), texts)


def test_a_semicolon_in_a_string_does_not_end_it() -> None:
    assert parse(["names=['first; second']"], TEXT)["names"].tolist() == ["first; second"]


@pytest.mark.parametrize(("dtype", "literal", "expected"), [
    ("float32", "[1, 2.5]", [1.0, 2.5]), ("bool", "[True, False]", [True, False]), ("float16", "(1, 2)", [1.0, 2.0])])
def test_dtypes(dtype: str, literal: str, expected: list[Any]) -> None:
    got = value(dtype, literal)
    assert (got.dtype.name, got.tolist()) == (dtype, expected)


def test_a_scalar_and_an_unknown_rank() -> None:
    assert value("float32", "3", ()).tolist() == 3.0
    assert value("float32", "[[1]]", None).tolist() == [[1.0]]


@pytest.mark.parametrize(("expression", "shown"), [("output=[[1]]", "output=[[1]]"), ("[[1]]", "[[1]]"),
                                                   ("=[[1]]", "=[[1]]"), ("x" * 100 + "=1", "x" * 60)])
def test_an_expression_needs_the_name_of_an_input(expression: str, shown: str) -> None:
    assert complaint(expression) == f"--input-expr '{shown}': write NAME=[[...]] with NAME one of input"


@pytest.mark.parametrize("literal", ["__import__('os').system('true')", "np.zeros(3)", "[x for x in (1,)]", "[[1", "",
                                     "open('f')", "1 +", "[" * 5000, "(" * 300 + ")" * 300, "f'{1}'"])
def test_only_literals_are_read(literal: str) -> None:
    assert complaint(f"input={literal}") == (
        f"--input-expr input: '{literal[:60]}' is not a Python literal such as [[1, 2, 3]]")


@pytest.mark.parametrize("literal", ["[[1, 2], [3]]", "[['a']]", "[[None]]", "[[{}]]", f"[[{2**70}]]"])
def test_what_is_no_array_of_the_dtype(literal: str) -> None:
    assert complaint(f"input={literal}") == (f"--input-expr input: '{literal[:60]}' is no int64 array (rows of one "
                                             "length, numbers in range)")


@pytest.mark.parametrize(("dtype", "literal"), [("int8", "[300]"), ("uint8", "[-1]"), ("int32", f"[{2**40}]"),
                                                ("int64", "[1.5]")])
def test_a_number_that_the_dtype_cannot_hold_is_refused_not_changed(dtype: str, literal: str) -> None:
    with pytest.raises(InputError, match="numbers in range"):
        value(dtype, literal)


@pytest.mark.parametrize("literal", ["[1, 2]", "[['a'], ['b', 'c']]", "[None]"])
def test_a_string_input_takes_strings_only(literal: str) -> None:
    with pytest.raises(InputError, match="string"):
        value("string", literal)


@pytest.mark.parametrize(("literal", "shape"), [("[1, 2, 3]", [3]), ("[[[1]]]", [1, 1, 1]), ("5", [])])
def test_another_rank_is_refused(literal: str, shape: list[int]) -> None:
    assert complaint(f"input={literal}") == f"--input-expr input: shape {shape} does not fit int64 (-1,-1)"


def test_another_fixed_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \[1, 2\] does not fit float32 \(-1,3\)"):
        value("float32", "[[1, 2]]", (None, 3))


def test_an_expression_of_megabytes_is_refused_unread() -> None:
    text = complaint("input=" + " " * 10_000_001)
    assert text == "--input-expr input: longer than 10000000 characters; use samples instead"
