"""The HTTP server: connections, limits, start and end."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.errors import InputError, ModelError
from trt_pipeline.serve import serve
from trt_pipeline.serve.models import ModelStore
from trt_pipeline.serve.rest import dispatch
from trt_pipeline.serve.server import RestServer

ROOT = Path(__file__).parents[2]
POST = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\n"


def exchange(port: int, request: bytes) -> tuple[bytes, dict[str, str]]:
    """The first line and the JSON of the answer to raw bytes; reads until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.splitlines()[0], json.loads(body)


def test_a_connection_serves_requests_in_turn(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.connect()
    first = connection.sock
    for path, status in (("/v1/models/toy", 200), ("/v1/models/zzz", 404), ("/v1/models/toy", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.version, response.status) == (11, status)
        response.read()
        assert connection.sock is first, "the server closed the connection"
    connection.close()


def test_an_old_client_gets_its_answer_and_the_end_of_the_connection(port: int) -> None:
    line, _ = exchange(port, b"GET /v1/models/toy HTTP/1.0\r\n\r\n")
    assert line == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(("head", "line", "error"), [
    (POST + b"Content-Length: 10000000000000\r\n\r\n", b"HTTP/1.1 413 Request Entity Too Large",
     "request body of 10000000000000 bytes: the limit is 67108864 bytes (64 MiB)"),
    (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"HTTP/1.1 413 Request Entity Too Large",
     "request body of 999999999999999999999999999999 bytes: the limit is 67108864 bytes (64 MiB)"),
    (POST + b"Content-Length: 10000000000000\r\nExpect: 100-continue\r\n\r\n",
     b"HTTP/1.1 413 Request Entity Too Large",
     "request body of 10000000000000 bytes: the limit is 67108864 bytes (64 MiB)"),
    (POST + b"\r\n", b"HTTP/1.1 411 Length Required", "Content-Length is required"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 411 Length Required",
     "Content-Length is required: bodies in chunks are not taken"),
    (POST + b"Content-Length: -1\r\n\r\n", b"HTTP/1.1 400 Bad Request", "Content-Length is not one whole number"),
    (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 400 Bad Request",
     "Content-Length is not one whole number"),
    (POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n", b"HTTP/1.1 415 Unsupported Media Type",
     "Content-Encoding gzip is not taken: send plain JSON"),
    (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request", "Bad request syntax ('nonsense')"),
    (b"BREW /v1/models/toy HTTP/1.1\r\n\r\n", b"HTTP/1.1 501 Not Implemented", "Unsupported method ('BREW')"),
    (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414 Request-URI Too Long", "Request-URI Too Long"),
])
def test_a_request_that_is_refused_unread(port: int, head: bytes, line: bytes, error: str) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head)
        answer = connection.recv(65536)
    assert time.monotonic() - begin < 1, "the server waited for the body"
    assert answer.splitlines()[0] == line
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": error}


def test_a_client_that_sends_too_much_still_reads_why_it_is_refused(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/models/toy:predict", bytes(64 * 2**20 + 1))
    assert connection.getresponse().status == 413
    connection.close()


def test_an_expected_continue_is_sent(port: int) -> None:
    body = b'{"inputs": [[1, 2]]}'
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_goes_away_harms_nobody(port: int, raw: Callable[..., tuple[int, bytes]],
                                              capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(POST + b"Content-Length: 100\r\n\r\n{")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert raw("GET", "/v1/models/toy")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_head_gets_no_body(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"HEAD /v1/models/toy HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_a_port_in_use_is_one_line(port: int, serving: Path) -> None:
    with pytest.raises(InputError, match=f"^port {port} of 127.0.0.1 is in use: .*$"):
        serve({"toy": serving / "toy"}, port=port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no such host", 0)])
def test_an_address_that_cannot_be_had_is_one_line(serving: Path, host: str, port: int) -> None:
    with pytest.raises(InputError, match=f"^cannot listen on port {port} of {host}: [^\n]+$"):
        serve({"toy": serving / "toy"}, host, port)


def test_nothing_to_serve_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="run trt-pipeline optimize NAME first"):
        serve({})


@contextmanager
def process(serving: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, int]]:
    """A server in a process of its own, the line that it prints, and its port."""
    code = ("import sys; from pathlib import Path; from trt_pipeline.serve import find_models, serve\n"
            "serve(find_models(Path(sys.argv[1])), port=0)")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen([sys.executable, "-c", code, str(serving)], stderr=subprocess.PIPE,
                          env=environment) as child:
        assert child.stderr is not None
        try:
            ready, _, _ = select.select([child.stderr], [], [], 20)
            assert ready, "the server printed nothing"
            line = child.stderr.readline().decode()
            yield child, line, int(line.split("127.0.0.1:")[1].split("/")[0])
        finally:
            child.kill()


def test_sigterm_ends_a_server_that_has_answered_with_0(serving: Path) -> None:
    with process(serving) as (child, line, port):
        where = f"http://127.0.0.1:{port}/v1/models"
        assert line == f"serving {where}/broken {where}/toy\n"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)  # kept open: it must not hold the end
        connection.request("POST", "/v1/models/toy:predict", b'{"inputs": [[1, 2]]}')
        assert connection.getresponse().read() == b'{\n    "outputs": {"double": [[2.0, 4.0]], "total": [3.0]}\n}\n'
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
        assert child.stderr is not None
        assert b"Traceback" not in child.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_under_way_is_answered_before_the_end(serving: Path, number: signal.Signals) -> None:
    with process(serving) as (child, _, port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"POST /v1/models/zzz:predict HTTP/1.1\r\nContent-Length: 2\r\n"
                               b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
            child.send_signal(number)
            time.sleep(0.5)
            assert child.poll() is None, "the server did not wait"
            connection.sendall(b"{}")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 404 Not Found")
        assert b"Connection: close" in answer
        assert child.wait(10) == 0


def test_the_end_closes_connections_that_wait(serving: Path) -> None:
    server = RestServer({"toy": serving / "toy"}, "127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        server.handle_request()
        connection.sendall(b"GET /v1/models/toy HTTP/1.1\r\n\r\n")
        assert b"Connection: keep-alive" in connection.recv(65536)
        begin = time.monotonic()
        assert server.stop()
        assert connection.recv(1) == b""
        assert time.monotonic() - begin < 5


def test_requests_that_arrive_before_the_model_is_loaded_wait_for_one_load(
        serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    activate = SavedModelRunner.activate
    monkeypatch.setattr(SavedModelRunner, "activate", lambda runner: (loads.append(runner), activate(runner)))
    store = ModelStore({"toy": serving / "toy"})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: dispatch(store, "POST", "/v1/models/toy:predict", b'{"inputs": [[1, 2]]}'),
                                range(8)))
    assert [status for status, _ in answers] == [200] * 8
    assert len(loads) == 1


def test_importing_the_server_does_not_import_tensorflow() -> None:
    code = "import sys, trt_pipeline.serve; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          check=False).returncode == 0
