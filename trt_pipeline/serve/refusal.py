"""Answers that are not 200: a status and the text of TensorFlow Serving's ``{"error": ...}``."""

from __future__ import annotations

import json
import re
from itertools import pairwise

# TensorFlow's error codes -> HTTP, as TensorFlow Serving maps them; every other code is a 500.
_HTTP_STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401}
_MARKS = re.compile(r"^\{\{function_node [^}]*\}\} ?| \[Op:\w+\].*$")  # TensorFlow's own, around the cause


class RefusalError(Exception):
    """A request that gets no result; ``message`` is shown to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def error_body(message: str) -> bytes:
    """The JSON body of an error."""
    return ('{\n    "error": ' + json.dumps(message, ensure_ascii=False) + "\n}\n").encode("utf-8", "replace")


def of_tensorflow(error: Exception) -> RefusalError | None:
    """What a failed run means to the client; None when ``error`` is not one of TensorFlow's own.

    TensorFlow's texts go on with the graph's stack; only the line that says what is wrong is kept.
    """
    code = getattr(error, "error_code", None)
    if not isinstance(code, int):
        return None
    return RefusalError(_HTTP_STATUS.get(code, 500), _reason(str(getattr(error, "message", ""))))


def _reason(message: str) -> str:
    """The line that states the cause: the last one before the graph's stack, else the first."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["the model failed on this input"]
    before_stack = (line for line, following in pairwise(lines) if following.startswith("[[{{node"))
    return _MARKS.sub("", next(before_stack, lines[0]))
