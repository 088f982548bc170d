"""Bodies of classify and regress: ``examples`` and ``context`` in, ``results`` out."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2

from trt_pipeline.backends.base import Array
from trt_pipeline.serve.core import Classes
from trt_pipeline.serve.json_tensors import decimals, double, is_base64, json_type, of_base64, shown
from trt_pipeline.serve.refusal import invalid

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_LARGEST_FLOAT = float(np.finfo(np.float32).max)


def read(document: dict[str, Any]) -> list[bytes]:
    """The Examples that a request carries, serialized, each after the ``context`` that they share.

    Whole numbers and booleans make an int64 feature, decimal ones a float feature, strings and
    ``{"b64": "..."}`` a bytes feature; a feature's values are all of one kind.

    Raises:
        RefusalError: INVALID_ARGUMENT and what is wrong with them.
    """
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise invalid(f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected and was "
                      "not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    return [context + _example(example) for example in examples]


def write_classes(classes: Classes) -> bytes:
    """The body that answers classify: for each Example a list of [label, score]."""
    rows = []
    for row in classes.rows():
        scores = decimals(np.array([score for _, score in row], np.float32))
        rows.append([f"[{json.dumps(label, ensure_ascii=False)}, {score}]"
                     for (label, _), score in zip(row, scores, strict=True)])
    return _results("[" + ", ".join(row) + "]" for row in rows)


def write_values(values: Array) -> bytes:
    """The body that answers regress: a number for each Example."""
    return _results(decimals(values))


def _results(texts: Any) -> bytes:
    return ('{\n    "results": [' + ", ".join(texts) + "]\n}\n").encode("utf-8", "replace")


def _example(value: object) -> bytes:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)
        try:
            example.features.feature[name].CopyFrom(feature)
        except (UnicodeEncodeError, ValueError):
            raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    serialized: bytes = example.SerializeToString()
    return serialized


def _add(feature: feature_pb2.Feature, name: str, item: object) -> None:
    field, value = _typed(name, item)
    kind = feature.WhichOneof("kind")
    if kind not in (None, field):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[kind]}")
    getattr(feature, field).value.append(value)


def _typed(name: str, item: object) -> tuple[str, bytes | float | int]:
    """The field of a Feature that takes ``item``, and ``item`` as it takes it."""
    if isinstance(item, bool):
        return "int64_list", int(item)
    if isinstance(item, str):
        try:
            return "bytes_list", item.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    if isinstance(item, dict) and is_base64(item):
        return "bytes_list", of_base64(item)
    if isinstance(item, int) and -(2**63) <= item < 2**63:
        return "int64_list", item
    if isinstance(item, int) and 0 < item < 2**64:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if isinstance(item, int | float):
        return "float_list", _float(item)
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(item)}")


def _float(number: float) -> float:
    """``number``, infinite where a float cannot hold it: protobuf would refuse some such."""
    value = double(number)
    return value if math.isnan(value) or abs(value) <= _LARGEST_FLOAT else float(np.copysign(np.inf, value))
