"""Requests that get no result: TensorFlow's error codes, and what each is in gRPC and in HTTP."""

from __future__ import annotations

import json
import re
from enum import IntEnum
from itertools import pairwise

_MARKS = re.compile(r"^\{\{function_node [^}]*\}\} ?| \[Op:\w+\].*$")  # TensorFlow's own, around the cause


class Code(IntEnum):
    """TensorFlow's error codes, which are gRPC's too (`grpc.StatusCode` has the same names and numbers)."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """What TensorFlow Serving makes of the code in its REST API; 500 where it has no status of its own."""
        return _HTTP_STATUS.get(self, 500)


_HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504, Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429, Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501, Code.UNAVAILABLE: 503, Code.UNAUTHENTICATED: 401}


class RefusalError(Exception):
    """A request that gets no result; ``message`` is shown to the client."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def invalid(message: str) -> RefusalError:
    """The refusal of a request that is wrong in itself."""
    return RefusalError(Code.INVALID_ARGUMENT, message)


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
    known = Code(code) if code in set(Code) else Code.UNKNOWN
    return RefusalError(known, _reason(str(getattr(error, "message", ""))))


def _reason(message: str) -> str:
    """The line that states the cause: the last one before the graph's stack, else the first."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["the model failed on this input"]
    before_stack = (line for line, following in pairwise(lines) if following.startswith("[[{{node"))
    return _MARKS.sub("", next(before_stack, lines[0]))
