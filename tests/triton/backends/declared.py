"""Whether a config.pbtxt declares what the model file has, as Triton's own backends check when they load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATA_TYPES = {"float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "int8": "TYPE_INT8",
              "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8",
              "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32", "uint64": "TYPE_UINT64", "bool": "TYPE_BOOL",
              "string": "TYPE_STRING"}
Tensors = Mapping[str, tuple[str, tuple[int | None, ...] | None]]
"""Name -> dtype and shape of a model's inputs or outputs; None is a free dimension or an unknown rank."""


def differences(config: Mapping[str, Any], inputs: Tensors, outputs: Tensors) -> list[str]:
    """What ``config`` (Triton's JSON of a model's configuration) says that is not so, a line each."""
    found = [f"input '{name}' is not declared" for name in inputs.keys() - {i["name"] for i in config["input"]}]
    batched = config["max_batch_size"] > 0
    for side, tensors in (("input", inputs), ("output", outputs)):
        for declared in config[side]:
            found += _differences(f"{side} '{declared['name']}'", declared, batched, tensors)
    return found


def _differences(what: str, declared: Mapping[str, Any], batched: bool, tensors: Tensors) -> list[str]:
    if declared["name"] not in tensors:
        return [f"the model has no {what}"]
    dtype, shape = tensors[declared["name"]]
    found = []
    if declared["data_type"] != DATA_TYPES[dtype]:
        found.append(f"{what} is {DATA_TYPES[dtype]}, not {declared['data_type']}")
    dims = declared["reshape"]["shape"] if "reshape" in declared else declared["dims"]
    told = [-1] * batched + [int(size) for size in dims]
    fits = shape is None or (len(shape) == len(told) and all(
        known in (None, size) for known, size in zip(shape, told, strict=True)))
    return found if fits else [*found, f"{what} has the shape {shape}, not {told}"]
