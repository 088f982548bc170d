"""What errors of gRPC and HTTP calls mean."""

from __future__ import annotations

import re
from typing import Any

from trt_pipeline.client.protocol import Protocol
from trt_pipeline.errors import RequestError, UnreachableError, one_line

# Only of an answer does gRPC say that it came from the other side.
_ANSWERED = "from peer"
_WITHOUT_WORDS = {"UNIMPLEMENTED": "the server has no such method: does it speak another protocol?"}
# gRPC's names for what these mean; 400 is several of them.
_HTTP_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
               409: "ABORTED", 412: "FAILED_PRECONDITION", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED",
               499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


def of_grpc(protocol: Protocol, code: str, details: str, debug: Any) -> RequestError:
    """The error of a call that ended with ``code``.

    Args:
        details: the server's message, or gRPC's where there was no answer.
        debug: gRPC's own account of the error.
    """
    if _ANSWERED not in str(debug):
        if code == "UNAVAILABLE":
            return _unreachable(protocol, details.rpartition(": ")[2])
        if code == "DEADLINE_EXCEEDED":
            return protocol.refused("no answer in time", code)
    return protocol.refused(details or _WITHOUT_WORDS.get(code, "no reason is told"), code)


def of_httpx(protocol: Protocol, error: Exception) -> RequestError | None:
    """What an exception of httpx means; None where it is not about the request."""
    import httpx

    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return protocol.refused("no answer in time", "DEADLINE_EXCEEDED")
    if isinstance(error, httpx.TransportError):
        return _unreachable(protocol, str(error) or type(error).__name__)
    return None


def checked(protocol: Protocol, response: Any) -> Any:
    """``response``, if it is an answer.

    Raises:
        RequestError: it is a refusal.
    """
    if response.is_success:
        return response
    try:
        message = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code} {response.reason_phrase}"
    raise protocol.refused(message, _HTTP_CODES.get(response.status_code, "UNKNOWN"))


def document(protocol: Protocol, response: Any, *keys: str) -> Any:
    """The JSON of ``response``; with ``keys``, what is below them.

    Raises:
        RequestError: it is a refusal, or something else than such JSON.
    """
    try:
        found = checked(protocol, response).json()
        for key in keys:
            found = found[key]
    except (ValueError, KeyError, TypeError):
        what = f"without '{'.'.join(keys)}'" if keys else "no JSON"
        raise protocol.refused(f"the answer is {what}: is this the server's REST port?", "UNKNOWN") from None
    return found


def _unreachable(protocol: Protocol, why: str) -> UnreachableError:
    reason = re.sub(r"^\[Errno \d+\] ", "", one_line(Exception(why), longest=120))
    return UnreachableError(f"no server answers ({reason}): start it, or check host, port and protocol", "UNAVAILABLE",
                            protocol.address)
