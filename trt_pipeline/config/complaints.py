"""Say where in the YAML a complaint belongs: the line, the key as the user wrote it, the nearest known one."""

from __future__ import annotations

from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from trt_pipeline.config.schema import Config
from trt_pipeline.suggest import did_you_mean

_MERGE = "tag:yaml.org,2002:merge"


def complaint(error: ValidationError, document: yaml.Node) -> str:
    """The complaint of ``error`` that lies deepest in the document, as ``LINE: what``."""
    # Of a value that fits no branch of a union, the deepest complaint is of the branch that was meant.
    worst: Any = max(error.errors(), key=lambda item: len(_place(document, item["loc"])[0]))
    place, line = _place(document, worst["loc"])
    if worst["type"] in ("extra_forbidden", "missing") and (not place or place[-1] != str(worst["loc"][-1])):
        place = [*place, str(worst["loc"][-1])]
    shown = ".".join(place)
    if worst["type"] == "extra_forbidden":
        known = _fields(worst["loc"][:-1])
        return f"{line}: unknown key '{shown}'{did_you_mean(place[-1], known) or _listed(known)}"
    if worst["type"] == "missing":
        return f"{line}: '{shown}' is missing"
    message = worst["msg"].removeprefix("Value error, ")
    if not place:  # about the whole: the message begins with the key that it is about
        _, line = _place(document, (message.partition(" ")[0],))
    return f"{line}: {f'{shown}: ' if shown else ''}{message}"


def refused_construct(document: yaml.Node) -> str | None:
    """What YAML allows and a configuration does not, as ``LINE: what``, or None.

    A key that stands twice would lose its first value; merges of several mappings can be nested
    into a document that takes years to read.
    """
    pending, seen = [document], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        keys: set[str] = set()
        for key, value in node.value:
            pending.extend((key, value))
            if key.tag == _MERGE and isinstance(value, yaml.SequenceNode):
                return f"{key.start_mark.line + 1}: '<<' takes one mapping, not a list"
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    return f"{key.start_mark.line + 1}: the key '{key.value}' stands here a second time"
                keys.add(key.value)
    return None


def _place(node: yaml.Node, location: tuple[Any, ...]) -> tuple[list[str], int]:
    """The part of ``location`` that stands in the document, and the 1-based line where it ends.

    Pydantic also puts the branches of unions into a location; what the user did not write is passed over.
    """
    place: list[str] = []
    line = node.start_mark.line
    for key in location:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(key)]
            if found:
                line, node = found[0][0].start_mark.line, found[0][1]
                place.append(str(key))
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
            place.append(str(key))
    return place, line + 1


def _listed(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _fields(location: tuple[Any, ...]) -> list[str]:
    """Names of the schema's fields below ``location``."""
    model: Any = Config
    for key in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = _inner_model(model.model_fields[key].annotation)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner_model(annotation: Any) -> Any:
    """The Pydantic model inside ``tuple[Model, ...]``, ``dict[str, Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (inner := _inner_model(argument)) is not None:
            return inner
    return None
