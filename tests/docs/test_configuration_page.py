"""The page on the configuration has every key of the schema, with its default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from trt_pipeline.config.schema import Config

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/configuration.md"
# What stands in the page for a key that the user chooses; of what may stand under several, the first is described.
PLACEHOLDERS = {"backends": "NAME", "gate.outputs": "OUTPUT", "gate.metrics": "METRIC"}
TOLD_ONCE = ("gate.precisions.", "profiles.", "versions.serve.")


def rows() -> dict[str, str]:
    found = re.findall(r"^\| `([a-zA-Z_.]+)` \| (.*?) \| ", PAGE.read_text(), re.MULTILINE)
    assert len({key for key, _ in found}) == len(found)
    return dict(found)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, default) of every setting; of a part that has settings of its own, those."""
    for name, field in model.model_fields.items():
        key = prefix + name
        if key.startswith(TOLD_ONCE):
            continue
        inner = inner_model(field.annotation)
        whole = inner is None or get_origin(field.annotation) in (dict, tuple) or key == "versions.serve"
        if whole:
            yield key, field.default
        if inner is not None:
            named = f".{PLACEHOLDERS[key]}" if key in PLACEHOLDERS else ""
            yield from keys(inner, f"{key}{named}.")


def inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := inner_model(part))), None)


def shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "*required*"
    return "-" if default is None else f"`{json.dumps(to_jsonable_python(default))}`"


def test_it_has_the_keys_of_the_schema_and_their_defaults() -> None:
    assert rows() == {key: shown(default) for key, default in keys(Config)}
