"""Examples as they are sent, serialized for a model's parser."""

from __future__ import annotations

from typing import Any


def serialized(given: Any) -> list[bytes]:
    """The Examples of an ``Input`` message, each after the context that all share, if there is one.

    Serialized messages that follow each other are the merged message.
    """
    kind = given.WhichOneof("kind")
    if kind is None:
        return []
    listed = getattr(given, kind)
    context = listed.context.SerializeToString() if kind == "example_list_with_context" else b""
    return [context + example.SerializeToString() for example in listed.examples]
