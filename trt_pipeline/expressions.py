"""Inputs typed on a command line: ``input=[[26228, 145, 1]]``, as `saved_model_cli run` takes them."""

from __future__ import annotations

import ast
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
    for part in (p for text in expressions for p in text.split(";") if p.strip()):
        name, equals, literal = part.partition("=")
        name = name.strip()
        if not equals or name not in signature.inputs:
            raise InputError(f"--input-expr '{part[:60]}': write NAME=[[...]] with NAME one of "
                             f"{', '.join(signature.inputs)}")
        feeds[name] = _array(name, literal, signature)
    return feeds


def _array(name: str, literal: str, signature: SignatureContract) -> npt.NDArray[Any]:
    tensor = signature.inputs[name]
    if len(literal) > _LARGEST_EXPRESSION:
        raise InputError(f"--input-expr {name}: longer than {_LARGEST_EXPRESSION} characters; use samples instead")
    try:
        value = ast.literal_eval(literal.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise InputError(f"--input-expr {name}: '{literal[:60]}' is not a Python literal such as [[1, 2, 3]]") from None
    try:
        array = np.array(value, dtype=object if tensor.dtype == "string" else tensor.dtype)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"--input-expr {name}: '{literal[:60]}' is no {tensor.dtype} array (rows of one length, "
                         "numbers in range)") from None
    shape = tensor.shape
    fits = shape is None or (array.ndim == len(shape) and all(
        size in (None, given) for size, given in zip(shape, array.shape, strict=True)))
    if not fits:
        raise InputError(f"--input-expr {name}: shape {list(array.shape)} does not fit {tensor}")
    return array
