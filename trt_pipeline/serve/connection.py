"""One client's connection: HTTP/1.1 requests in turn, each checked before its body is read."""

from __future__ import annotations

import logging
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from trt_pipeline.serve.refusal import RefusalError, error_body
from trt_pipeline.serve.rest import dispatch

if TYPE_CHECKING:
    from trt_pipeline.serve.server import RestServer

_log = logging.getLogger(__name__)
BODY_LIMIT = 64 * 2**20
_NEEDS_LENGTH = ("POST", "PUT", "PATCH")
_LINGER_SECONDS = 2.0


class Connection(BaseHTTPRequestHandler):
    """Reads requests and writes answers; what they say is `rest.dispatch`'s business."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60  # seconds without a byte
    server: RestServer

    def handle(self) -> None:
        """Answer requests until the client, an error or the server's end closes the connection."""
        self.close_connection = False
        try:
            while not self.close_connection and self._request_arrives():
                try:
                    self.handle_one_request()
                finally:
                    self.server.ends()
        except ConnectionError as error:
            _log.debug("%s went away: %s", self.client_address, error)

    def do_GET(self) -> None:
        """Read the body, if there is one, and answer."""
        try:
            length = self._body_length()
        except RefusalError as refused:
            return self._refuse(refused)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return None
        path = self.path.encode("latin-1", "replace").decode("utf-8", "replace")
        return self._write(*dispatch(self.server.store, self.command, path, body))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = do_GET  # noqa: N815

    def handle_expect_100(self) -> bool:
        """Refuse a body that would be refused anyway before the client sends it."""
        try:
            self._body_length()
        except RefusalError as refused:
            self._refuse(refused)
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` finds wrong with a request line or header, as JSON."""
        self._refuse(RefusalError(int(code), message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are logged at the level for debugging only."""
        _log.debug(format, *args)

    def _request_arrives(self) -> bool:
        """Wait for the first byte of a request. When there is one, the request counts as under way."""
        if not self.server.waits(self.connection):
            return False
        arrived = False
        try:
            arrived = bool(self.rfile.peek(1))  # type: ignore[attr-defined]
        except TimeoutError:
            pass
        finally:
            self.server.begins(self.connection)
            if not arrived:
                self.server.ends()
        return arrived

    def _body_length(self) -> int:
        """The length that the headers declare.

        Raises:
            RefusalError: 411 where it is missing, 400 where it is no length, 413 where it is too large,
                415 for a compressed body.
        """
        if "Transfer-Encoding" in self.headers:
            raise RefusalError(411, "Content-Length is required: bodies in chunks are not taken")
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RefusalError(415, f"Content-Encoding {self.headers['Content-Encoding']} is not taken: "
                                    "send plain JSON")
        declared = set(self.headers.get_all("Content-Length", []))
        if not declared and self.command in _NEEDS_LENGTH:
            raise RefusalError(411, "Content-Length is required")
        text = declared.pop() if declared else "0"
        if declared or not (text.isascii() and text.isdecimal()):
            raise RefusalError(400, "Content-Length is not one whole number")
        if len(text) > 18 or int(text) > BODY_LIMIT:
            raise RefusalError(413, f"request body of {text[:30]} bytes: the limit is {BODY_LIMIT} bytes (64 MiB)")
        return int(text)

    def _refuse(self, refused: RefusalError) -> None:
        """Answer without having read the body, which makes the connection useless for further requests.

        The client may still be sending. Were the connection closed on it, the answer would be lost;
        so what it sends in a short time is discarded.
        """
        self.close_connection = True
        self._write(refused.status, error_body(refused.message))
        until = time.monotonic() + _LINGER_SECONDS
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(2**20):
                    break
        except OSError:
            pass  # closed, or the time is over

    def _write(self, status: int, body: bytes) -> None:
        if self.server.stopping:
            self.close_connection = True
        head = (f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"Content-Type: application/json\r\nDate: {self.date_time_string()}\r\n"
                f"Content-Length: {len(body)}\r\n"
                f"Connection: {'close' if self.close_connection else 'keep-alive'}\r\n\r\n").encode("ascii")
        self.wfile.write(head if self.command == "HEAD" else head + body)
