"""The HTTP server in front of `rest.dispatch`, and its start and end."""

from __future__ import annotations

import errno
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from urllib.parse import quote

from trt_pipeline.errors import InputError
from trt_pipeline.serve.connection import Connection
from trt_pipeline.serve.models import ModelStore, find_models

__all__ = ["RestServer", "find_models", "serve"]

_GRACE_SECONDS = 30.0  # for requests under way when the server is asked to stop
_POLL_SECONDS = 0.2


class RestServer(ThreadingHTTPServer):
    """Listens from the moment it is made; a thread for each connection.

    Raises:
        InputError: the address is in use or cannot be listened on.
    """

    request_queue_size = 128
    daemon_threads = True  # `stop` waits for requests, not for connections, which a client may keep open

    def __init__(self, models: Mapping[str, Path], host: str, port: int) -> None:
        self.store = ModelStore(models)
        self.stopping = False
        self._idle: set[socket.socket] = set()
        self._under_way = 0
        self._changed = threading.Condition()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Connection)
        except (OSError, OverflowError) as error:
            raise _cannot_listen(host, port, error) from error

    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name that `HTTPServer` does, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def urls(self) -> list[str]:
        """Where each model answers."""
        host, port = str(self.server_address[0]), self.server_address[1]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return [f"http://{where}/v1/models/{quote(name, safe='')}" for name in self.store.models]

    def waits(self, connection: socket.socket) -> bool:
        """Note that ``connection`` waits for a request; False when no more are taken."""
        with self._changed:
            if not self.stopping:
                self._idle.add(connection)
            return not self.stopping

    def begins(self, connection: socket.socket) -> None:
        """Note that a request arrives on ``connection``."""
        with self._changed:
            self._idle.discard(connection)
            self._under_way += 1

    def ends(self) -> None:
        """Note that a request is answered, or its connection gone."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def stop(self) -> bool:
        """Take no more requests and finish those under way; False when some outlast the time for that."""
        with self._changed:
            self.stopping = True
            for connection in self._idle:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RD)
            finished = self._changed.wait_for(lambda: self._under_way == 0, _GRACE_SECONDS)
        self.server_close()
        return finished


def serve(models: dict[str, Path], host: str = "127.0.0.1", port: int = 8501) -> None:
    """Serve the newest version of each model until SIGINT or SIGTERM; then finish what is under way and return.

    Runs in the main thread. A second signal ends the process at once.

    Args:
        models: name -> base path, the folder that holds the numeric versions (`find_models`).
        port: 0 takes a free one; the line on stderr says which.

    Raises:
        ModelError: there is no model, or one has no version.
        InputError: the address is in use or cannot be listened on.
    """
    server = RestServer(models, host, port)
    server.timeout = _POLL_SECONDS
    with _stop_signals() as asked:
        print(f"serving {' '.join(server.urls())}", file=sys.stderr, flush=True)
        while not asked:
            server.handle_request()
    server.stop()


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that gets the number of each signal that asks to stop, while the context lasts."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, action in previous.items():
            signal.signal(number, action)


def _cannot_listen(host: str, port: int, error: Exception) -> InputError:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return InputError(f"port {port} of {host} is in use: stop what listens there or choose another port "
                          "(0 takes a free one)")
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot listen on port {port} of {host}: {reason}; choose another host or port")
