"""The JSON object of a request, and what every kind of request says in it."""

from __future__ import annotations

from typing import Any

from trt_pipeline.serve import json_parser
from trt_pipeline.serve.json_tensors import shown
from trt_pipeline.serve.refusal import invalid


def read(body: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        RefusalError: INVALID_ARGUMENT, it is no JSON or no object.
        RecursionError: it is nested too deeply.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    document = json_parser.parse(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {shown(document)} Is not object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """The signature that a request asks for; empty where it names none."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"JSON Value: {shown(document)} not formatted correctly. "
                      "'signature_name' key must be a string value.")
    return name
