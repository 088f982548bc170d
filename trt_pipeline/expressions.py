"""Inputs typed on a command line: ``input=[[26228, 145, 1]]``, as `saved_model_cli run` takes them."""

from __future__ import annotations

import ast
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import InputError
from trt_pipeline.model.contract import SignatureContract

_LARGEST_EXPRESSION = 10_000_000


def parse(expressions: list[str], signature: SignatureContract) -> dict[str, npt.NDArray[Any]]:
    """Arrays by input name, of the signature's dtypes; each expression is ``NAME=LITERAL[;NAME=LITERAL]``.

    Only Python literals are read, never evaluated.

    Raises:
        InputError: an expression is no literal, names no input, or does not fit dtype or shape.
    """
    feeds = {}
    for text in expressions:
        if len(text) > _LARGEST_EXPRESSION:
            raise InputError(f"--input-expr {text.partition('=')[0].strip()[:60]}: longer than {_LARGEST_EXPRESSION} "
                             "characters; use samples instead")
    for part in (p for text in expressions for p in _split(text) if p.strip()):
        name, equals, literal = part.partition("=")
        name = name.strip()
        if not equals or name not in signature.inputs:
            raise InputError(f"--input-expr '{part[:60]}': write NAME=[[...]] with NAME one of "
                             f"{', '.join(signature.inputs)}")
        feeds[name] = _array(name, literal, signature)
    return feeds


def _array(name: str, literal: str, signature: SignatureContract) -> npt.NDArray[Any]:
    tensor = signature.inputs[name]
    try:
        value = ast.literal_eval(literal.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise InputError(f"--input-expr {name}: '{literal[:60]}' is not a Python literal such as [[1, 2, 3]]") from None
    array = as_dtype(value, tensor.dtype)
    if array is None:
        raise InputError(f"--input-expr {name}: '{literal[:60]}' is no {tensor.dtype} array (rows of one length, "
                         "numbers in range)")
    shape = tensor.shape
    fits = shape is None or (array.ndim == len(shape) and all(
        size in (None, given) for size, given in zip(shape, array.shape, strict=True)))
    if not fits:
        raise InputError(f"--input-expr {name}: shape {list(array.shape)} does not fit {tensor}")
    return array


def _split(text: str) -> list[str]:
    """``text`` at the semicolons that stand outside of string literals."""
    cuts, quote, escaped = [-1], "", False
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "'\"":
            quote = character
        elif character == ";":
            cuts.append(place)
    return [text[a + 1:b] for a, b in itertools.pairwise([*cuts, len(text)])]


def as_dtype(value: Any, dtype: str) -> npt.NDArray[Any] | None:
    """``value`` as an array of ``dtype``, or None where that would change it or rows differ in length."""
    try:
        natural = np.array(value, dtype=object if dtype == "string" else None)
        if dtype == "string":
            return natural if all(isinstance(item, (str, bytes)) for item in natural.ravel()) else None
        if natural.dtype.kind not in "fiubc" and natural.size:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            array = natural.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return None
    # Floats may round; whole numbers and truth values have to arrive as they were given.
    return array if array.dtype.kind in "fc" or np.array_equal(array, natural) else None
