"""Bodies of predict: rows (``instances`` -> ``predictions``) and columns (``inputs`` -> ``outputs``)."""

from __future__ import annotations

import json
import math
from typing import Any

from trt_pipeline.backends.base import Array
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.serve.refusal import RefusalError
from trt_pipeline.serve.tensors import is_base64, shown, to_array, to_json, to_json_rows

_ONE_KEY = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "


def read(body: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        RefusalError: 400, it is no JSON, nests too deeply or is no object.
    """
    if not body:
        raise RefusalError(400, "JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=_number)
    except json.JSONDecodeError as error:
        raise RefusalError(400, f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except RecursionError:
        raise RefusalError(400, "JSON Parse error: lists or objects are nested too deeply") from None
    except ValueError as error:
        raise RefusalError(400, f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise RefusalError(400, f"JSON Value: {shown(document)} Is not object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """The signature that a request asks for."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise RefusalError(400, f"JSON Value: {shown(document)} not formatted correctly. "
                                "'signature_name' key must be a string value.")
    return name or "serving_default"


def feeds(document: dict[str, Any], signature: SignatureContract) -> dict[str, Array]:
    """The inputs that a request carries, by name, each of its signature's type and shape.

    Raises:
        RefusalError: 400 and what is wrong with them; 501 for types that JSON cannot carry.
    """
    if not signature.inputs:
        raise RefusalError(400, f"Failed to get input map for signature: {signature.name}")
    if "instances" in document and "inputs" in document:
        raise RefusalError(400, f"JSON Value: {shown(document)} {_ONE_KEY}")
    if "instances" in document:
        found = _from_rows(document, signature.inputs)
    elif "inputs" in document:
        found = _from_columns(document["inputs"], signature.inputs)
    else:
        raise RefusalError(400, "Missing 'inputs' or 'instances' key")
    for name, array in found.items():
        _check_shape(name, array, signature.inputs[name])
    return found


def answer(document: dict[str, Any], signature: SignatureContract, outputs: dict[str, Array]) -> bytes:
    """The body that answers ``document``: by rows or columns, as it asked; a single output without its name."""
    ordered = {name: outputs[name] for name in signature.outputs}
    if "instances" in document:
        key, text = "predictions", _rows_text(ordered)
    elif len(ordered) == 1:
        key, text = "outputs", to_json(*next(iter(ordered.items())))
    else:
        key, text = "outputs", _object({name: to_json(name, array) for name, array in ordered.items()})
    return f'{{\n    "{key}": {text}\n}}\n'.encode()


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("Number too big to be stored in double.")
    return value


def _from_columns(value: object, inputs: dict[str, TensorContract]) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) > 1:
            raise RefusalError(400, "inputs is a plain value/list, but expecting an object as multiple input tensors "
                                    "required as per tensorinfo_map")
        value = {next(iter(inputs)): value}
    missing = next((name for name in inputs if name not in value), None)
    if missing is not None:
        raise RefusalError(400, f"Missing named input: {missing} in 'inputs' object.")
    return {name: to_array(value[name], tensor.dtype) for name, tensor in inputs.items()}


def _from_rows(document: dict[str, Any], inputs: dict[str, TensorContract]) -> dict[str, Array]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise RefusalError(400, f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array")
    if not rows:
        raise RefusalError(400, f"JSON Value: {shown(document)} No values in 'instances' array")
    named = _is_named(rows[0])
    if not named and len(inputs) > 1:
        raise RefusalError(400, "instances is a plain list, but expecting list of objects as multiple input tensors "
                                "required as per tensorinfo_map")
    for index, row in enumerate(rows):
        if _is_named(row) != named:
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise RefusalError(400, f"Expecting {wanted} but got {got} at item {index} of input list")
        if named:
            _check_names(index, row, inputs)
    if not named:
        name, tensor = next(iter(inputs.items()))
        return {name: _column(rows, tensor.dtype, "")}
    return {name: _column([row[name] for row in rows], tensor.dtype, f" key: {name}")
            for name, tensor in inputs.items()}


def _is_named(row: object) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _check_names(index: int, row: dict[str, Any], inputs: dict[str, TensorContract]) -> None:
    unknown = next((name for name in row if name not in inputs), None)
    if unknown is not None:
        raise RefusalError(400, f"Failed to process element: {index} key: {unknown} of 'instances' list. Error: "
                                f"INVALID_ARGUMENT: JSON object: does not have named input: {unknown}")
    if len(row) != len(inputs):
        raise RefusalError(400, f"Failed to process element: {index} of 'instances' list. JSON object: {shown(row)} "
                                f"keys must be equal to: {','.join(sorted(inputs))}")


def _column(values: list[Any], dtype: str, key: str) -> Array:
    """One input's values of all rows as a tensor; a failure names the row that causes it."""
    try:
        return to_array(values, dtype)
    except RefusalError as whole:
        first: Array | None = None
        for index, value in enumerate(values):
            try:
                array = to_array(value, dtype)
                first = array if first is None else first
                _check_alike(first, array)
            except RefusalError as error:
                raise RefusalError(error.status, f"Failed to process element: {index}{key} of 'instances' list. "
                                                 f"Error: INVALID_ARGUMENT: {error.message}") from None
        raise whole


def _check_alike(first: Array, array: Array) -> None:
    if first.size != array.size:
        raise RefusalError(400, f"Expecting tensor size: {first.size} but got: {array.size}")
    if first.shape != array.shape:
        raise RefusalError(400, f"Expecting shape {_brackets(first.shape)} but got: {_brackets(array.shape)}")


def _check_shape(name: str, array: Array, tensor: TensorContract) -> None:
    if tensor.shape is None:
        return
    if len(tensor.shape) != array.ndim or any(
            want not in (None, got) for want, got in zip(tensor.shape, array.shape, strict=True)):
        asked = tuple(-1 if size is None else size for size in tensor.shape)
        raise RefusalError(400, f"input {name} has shape {_brackets(array.shape)}, but the signature takes "
                                f"{_brackets(asked)}")


def _brackets(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _rows_text(outputs: dict[str, Array]) -> str:
    batch = 0
    for name, array in outputs.items():
        if array.ndim == 0:
            raise RefusalError(400, f"Tensor name: {name} has no shape information ")
        if len(array) < 1:
            raise RefusalError(400, f"Tensor name: {name} has invalid batch size: {len(array)}")
        if batch and len(array) != batch:
            raise RefusalError(400, f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    columns = {name: to_json_rows(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        rows = next(iter(columns.values()))
    else:
        rows = [_object({name: texts[index] for name, texts in columns.items()}) for index in range(batch)]
    return "[" + ", ".join(rows) + "]"


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}"
