"""The HTTP side as an ASGI application: bodies, limits and clients that go away; what it says is `rest.dispatch`'s."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trt_pipeline.serve.core import Core
from trt_pipeline.serve.refusal import error_body
from trt_pipeline.serve.rest import dispatch

METRICS_PATH = "/monitoring/prometheus/metrics"
_LINGER_SECONDS = 2.0


class HttpError(Exception):
    """A request that is refused for how it is sent, before it is read as one of the API."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class RestApplication:
    """TensorFlow Serving's REST API and metrics, for any ASGI server.

    Args:
        body_limit: the largest body in bytes, after it is uncompressed.
    """

    def __init__(self, core: Core, body_limit: int) -> None:
        self._core, self._limit = core, body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except HttpError as refused:
            await _refuse(refused, receive, send)
            return
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        path = request.scope["raw_path"].decode("utf-8", "replace")
        if path == METRICS_PATH:
            return await self._metrics(request)
        if request.method == "OPTIONS":
            return _preflight(request)
        body = await self._body(request)
        if request.scope["query_string"]:
            path += "?" + request.scope["query_string"].decode("utf-8", "replace")
        answered = await _unless_gone(request.receive, dispatch(self._core, request.method, path, body))
        if answered is None:
            return None
        status, text = answered
        return Response(text, status, media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        query = request.scope["query_string"].decode("utf-8", "replace")
        if query:
            return Response(f"Unexpected path: {METRICS_PATH}?{query}. Should be {METRICS_PATH}", 400,
                            media_type="text/plain")
        return Response(await asyncio.to_thread(self._core.metrics.text), media_type="text/plain")

    async def _body(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise HttpError(415, f"Content-Encoding {encoding} is not taken: send JSON, plain or in gzip")
        if int(request.headers.get("content-length", "0")) > self._limit:
            raise self._too_large(request.headers["content-length"])
        chunks, size = [], 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._limit:
                raise self._too_large(f"more than {self._limit}")
        body = b"".join(chunks)
        return await asyncio.to_thread(self._uncompressed, body) if encoding == "gzip" else body

    def _uncompressed(self, body: bytes) -> bytes:
        unzip = zlib.decompressobj(wbits=31)
        try:
            plain = unzip.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise HttpError(400, f"the body is not gzip, as its Content-Encoding says: {error}") from None
        if len(plain) > self._limit:
            raise self._too_large(f"more than {self._limit}")
        return plain

    def _too_large(self, size: str) -> HttpError:
        return HttpError(413, f"request body of {size[:30]} bytes: the limit is {self._limit} bytes "
                              f"({self._limit / 2**20:g} MiB)")


async def _unless_gone(receive: Receive, answer: Coroutine[Any, Any, tuple[int, bytes]]) -> tuple[int, bytes] | None:
    """What ``answer`` comes to; None, and it is cancelled, where the client goes away before."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(receive())  # the body is read, so there is nothing else to come
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        return None
    finally:
        leaving.cancel()
        if not answering.done():
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering


def _preflight(request: Request) -> Response:
    """Whether a page of another origin may ask; the headers that say so are no more sent than by default there."""
    known = request.headers.get("origin", "").startswith(("http://", "https://"))
    return Response(b"", 200 if known else 400, media_type="application/json")


async def _refuse(refused: HttpError, receive: Receive, send: Send) -> None:
    """Answer without having read the body, which makes the connection useless for further requests.

    The client may still be sending. Were the connection closed on it, the answer would be lost;
    so what it sends in a short time is discarded.
    """
    body = error_body(refused.message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
               (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    until = time.monotonic() + _LINGER_SECONDS
    with suppress(asyncio.TimeoutError):
        while (left := until - time.monotonic()) > 0:
            message = await asyncio.wait_for(receive(), left)
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
    await send({"type": "http.response.body", "body": b""})
