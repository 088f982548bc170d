"""TensorRT's log: where it says why, for its functions only return nothing."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from trt_pipeline.engine.availability import load

_SHOWN = ("INTERNAL_ERROR", "ERROR", "WARNING")
# A verbose build logs a million lines; the reason of a failure is among the last.
_KEPT = 4000


class Message(NamedTuple):
    """One message: its severity's name, and what it says."""

    severity: str
    text: str

    @property
    def is_error(self) -> bool:
        return self.severity in _SHOWN[:2]


@functools.cache
def logger() -> Any:
    """The process's one ILogger: TensorRT ignores a second one. It shows warnings and errors on stderr."""
    tensorrt = load()

    class Log(tensorrt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.messages: list[Message] = []

        def log(self, severity: Any, text: str) -> None:
            name = severity.name
            if name == "VERBOSE":
                return
            self.messages.append(Message(name, text))
            del self.messages[:-_KEPT]
            if name in _SHOWN:
                print(f"TensorRT: {text}", file=sys.stderr)

    return Log()


@contextmanager
def collected() -> Iterator[list[Message]]:
    """The messages that are logged within."""
    messages: list[Message] = logger().messages
    messages.clear()
    yield messages
