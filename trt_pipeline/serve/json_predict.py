"""Bodies of predict: rows (``instances`` -> ``predictions``) and columns (``inputs`` -> ``outputs``)."""

from __future__ import annotations

import json
from typing import Any

from trt_pipeline.backends.base import Array
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.serve.json_tensors import RankError, is_base64, shown, to_array, to_json, to_json_rows
from trt_pipeline.serve.refusal import RefusalError, invalid

_ONE_KEY = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "


def read(document: dict[str, Any], signature: SignatureContract) -> dict[str, Array]:
    """The inputs that a request carries, by name, each of its signature's type.

    Raises:
        RefusalError: INVALID_ARGUMENT and what is wrong with them; UNIMPLEMENTED for types that JSON cannot carry.
    """
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {signature.name}")
    if "instances" in document and "inputs" in document:
        raise invalid(f"JSON Value: {shown(document)} {_ONE_KEY}")
    if "instances" in document:
        return _from_rows(document, signature.inputs)
    if "inputs" in document:
        return _from_columns(document["inputs"], signature.inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def write(document: dict[str, Any], outputs: dict[str, Array]) -> bytes:
    """The body that answers ``document``: by rows or columns, as it asked; a single output without its name."""
    if "instances" in document:
        key, text = "predictions", _rows_text(outputs)
    elif len(outputs) == 1:
        key, text = "outputs", to_json(*next(iter(outputs.items())))
    else:
        key, text = "outputs", _object({name: to_json(name, array) for name, array in outputs.items()})
    return f'{{\n    "{key}": {text}\n}}\n'.encode()


def _from_columns(value: object, inputs: dict[str, TensorContract]) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors "
                          "required as per tensorinfo_map")
        value = {next(iter(inputs)): value}
    missing = next((name for name in inputs if name not in value), None)
    if missing is not None:
        raise invalid(f"Missing named input: {missing} in 'inputs' object.")
    return {name: _tensor(name, value[name], tensor.dtype) for name, tensor in inputs.items()}


def _from_rows(document: dict[str, Any], inputs: dict[str, TensorContract]) -> dict[str, Array]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {shown(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {shown(document)} No values in 'instances' array")
    named = _is_named(rows[0])
    if not named and len(inputs) > 1:
        raise invalid("instances is a plain list, but expecting list of objects as multiple input tensors "
                      "required as per tensorinfo_map")
    for index, row in enumerate(rows):
        if _is_named(row) != named:
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {wanted} but got {got} at item {index} of input list")
        if named:
            _check_names(index, row, inputs)
    if not named:
        name, tensor = next(iter(inputs.items()))
        return {name: _column(name, rows, tensor.dtype, "")}
    return {name: _column(name, [row[name] for row in rows], tensor.dtype, f" key: {name}")
            for name, tensor in inputs.items()}


def _is_named(row: object) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _check_names(index: int, row: dict[str, Any], inputs: dict[str, TensorContract]) -> None:
    unknown = next((name for name in row if name not in inputs), None)
    if unknown is not None:
        raise invalid(f"Failed to process element: {index} key: {unknown} of 'instances' list. Error: "
                      f"INVALID_ARGUMENT: JSON object: does not have named input: {unknown}")
    if len(row) != len(inputs):
        raise invalid(f"Failed to process element: {index} of 'instances' list. JSON object: {shown(row)} "
                      f"keys must be equal to: {','.join(sorted(inputs))}")


def _tensor(name: str, value: object, dtype: str) -> Array:
    try:
        return to_array(value, dtype)
    except RankError:
        raise invalid(f"tensor parsing error: {name}") from None


def _column(name: str, values: list[Any], dtype: str, key: str) -> Array:
    """One input's values of all rows as a tensor; a failure names the row that causes it."""
    try:
        return to_array(values, dtype)
    except RankError:
        raise invalid(f"tensor parsing error: {name}") from None
    except RefusalError as whole:
        first: Array | None = None
        for index, value in enumerate(values):
            try:
                array = to_array(value, dtype)
                first = array if first is None else first
                _check_alike(first, array)
            except RefusalError as error:
                raise invalid(f"Failed to process element: {index}{key} of 'instances' list. "
                              f"Error: {error.code.name}: {error.message}") from None
        raise whole


def _check_alike(first: Array, array: Array) -> None:
    if first.size != array.size:
        raise invalid(f"Expecting tensor size: {first.size} but got: {array.size}")
    if first.shape != array.shape:
        raise invalid(f"Expecting shape {_brackets(first.shape)} but got: {_brackets(array.shape)}")


def _brackets(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _rows_text(outputs: dict[str, Array]) -> str:
    batch: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch is not None and len(array) != batch:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    columns = {name: to_json_rows(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        rows = next(iter(columns.values()))
    else:
        rows = [_object({name: texts[index] for name, texts in columns.items()}) for index in range(batch or 0)]
    return "[" + ", ".join(rows) + "]"


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}"
