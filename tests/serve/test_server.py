"""The server itself: connections, limits, clients that leave, start and end."""

from __future__ import annotations

import gzip
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.conftest import ROOT
from tests.server_process import server_process
from trt_pipeline.errors import InputError
from trt_pipeline.serve import Addresses, Options, running, serve
from trt_pipeline.serve.models_config import of_folders
from trt_pipeline.serve.servable import Servable

POST = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\n"
BODY = b'{"inputs": [[1, 2]]}'
ANSWER = b'{\n    "outputs": {"double": [[2.0, 4.0]], "total": [3.0]}\n}\n'


def exchange(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The first line and the body of the answer to raw bytes; reads until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.splitlines()[0], body


def predicting() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(inputs={"x": tf.make_tensor_proto([[1.0, 2.0]])})
    request.model_spec.name = "toy"
    return request


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_connection_serves_requests_in_turn(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
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
    assert exchange(port, b"GET /v1/models/toy HTTP/1.0\r\n\r\n")[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(("head", "line", "error"), [
    (POST + b"Content-Length: 10000000000000\r\n\r\n", b"413",
     b"request body of 10000000000000 bytes: the limit is 67108864 bytes (64 MiB)"),
    (POST + b"Content-Length: 10000000000000\r\nExpect: 100-continue\r\n\r\n", b"413",
     b"request body of 10000000000000 bytes: the limit is 67108864 bytes (64 MiB)"),
    (POST + b"Content-Length: -1\r\n\r\n", b"400", b"Invalid HTTP request received."),
    (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400", b"Invalid HTTP request received."),
    (POST + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\n", b"415",
     b"Content-Encoding br is not taken: send JSON, plain or in gzip"),
    (b"nonsense\r\n\r\n", b"400", b"Invalid HTTP request received."),
    (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"400", b"Invalid HTTP request received."),
])
def test_a_request_that_is_refused_unread(port: int, head: bytes, line: bytes, error: bytes) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head)
        answer = b""
        while error not in answer:
            received = connection.recv(65536)
            assert received, answer
            answer += received
    assert time.monotonic() - begin < 2, "the server waited for the body"
    assert answer.startswith(b"HTTP/1.1 " + line)


def test_a_client_that_sends_too_much_still_reads_why_it_is_refused(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/models/toy:predict", bytes(64 * 2**20 + 1))
    assert connection.getresponse().status == 413
    connection.close()


def test_bodies_in_chunks_and_in_gzip_are_taken_and_have_the_same_limit(serving: Path) -> None:
    with running({"toy": serving / "toy"}, body_limit=1000) as addresses:
        port = int(addresses.rest.rpartition(":")[2])

        def post(body: Any, **headers: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/v1/models/toy:predict", body, headers, encode_chunked=not isinstance(
                body, bytes))
            response = connection.getresponse()
            return response.status, response.read()

        chunked = {"Transfer-Encoding": "chunked"}
        assert post(iter([BODY[:5], BODY[5:]]), **chunked) == (200, ANSWER)
        assert post(gzip.compress(BODY), **{"Content-Encoding": "gzip"}) == (200, ANSWER)
        assert post(BODY, **{"Content-Encoding": "gzip"})[0] == 400
        for status, text in (post(iter([b" " * 501] * 2), **chunked), post(b" " * 1001),
                             post(gzip.compress(b" " * 1001), **{"Content-Encoding": "gzip"})):
            assert status == 413
            assert b"the limit is 1000 bytes" in text


def test_an_expected_continue_is_sent(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_goes_away_harms_nobody(port: int, raw: Callable[..., tuple[int, bytes]],
                                              caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(POST + b"Content-Length: 100\r\n\r\n{")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert raw("GET", "/v1/models/toy")[0] == 200
    assert not caplog.records


def test_what_a_client_gave_up_before_it_began_is_not_computed(
        serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = [], threading.Event()
    infer = Servable.infer
    monkeypatch.setattr(Servable, "infer", lambda *given: (begun.append(given), go_on.wait(60), infer(*given))[2])
    with (running({"toy": serving / "toy"}, threads=1) as addresses,
          grpc.insecure_channel(addresses.grpc) as channel):
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        first = predict.future(predicting())
        until(lambda: len(begun) == 1)
        second = predict.future(predicting())
        with socket.create_connection(("127.0.0.1", int(addresses.rest.rpartition(":")[2]))) as third:
            third.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            assert predict.future(predicting(), timeout=0.3).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        second.cancel()
        time.sleep(0.3)  # that the server hears of it
        go_on.set()
        assert first.result(60).outputs["total"].float_val == [3.0]
        assert predict(predicting()).outputs["total"].float_val == [3.0]
    assert len(begun) == 2


def test_head_gets_no_body(port: int) -> None:
    line, body = exchange(port, b"HEAD /v1/models/toy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (line, body) == (b"HTTP/1.1 400 Bad Request", b"")


def test_browsers_may_ask_first(port: int) -> None:
    ask = b"OPTIONS /v1/models/toy HTTP/1.0\r\n"
    assert exchange(port, ask + b"Origin: https://example.com\r\n\r\n")[0] == b"HTTP/1.1 200 OK"
    assert exchange(port, ask + b"\r\n") == (b"HTTP/1.1 400 Bad Request", b"")


def test_metrics_count_requests_of_both_protocols(addresses: Addresses, port: int) -> None:
    def counted() -> dict[str, float]:
        lines = exchange(port, b"GET /monitoring/prometheus/metrics HTTP/1.0\r\n\r\n")[1].decode().splitlines()
        return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)
                if "request_count" in name and "toy" in name and not name.startswith("#")}

    before = sum(counted().values())
    exchange(port, POST.replace(b"1.1", b"1.0") + b"Content-Length: 2\r\n\r\n{}")
    with grpc.insecure_channel(addresses.grpc) as channel:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predicting())
    after = counted()
    assert sum(after.values()) - before == 2
    assert any('"INVALID_ARGUMENT"' in name for name in after)


@pytest.mark.parametrize("field", ["port", "rest_port"])
def test_a_port_in_use_is_one_line(addresses: Addresses, serving: Path, field: str) -> None:
    used = int((addresses.grpc if field == "port" else addresses.rest).rpartition(":")[2])
    with pytest.raises(InputError, match=f"^port {used} of 127.0.0.1 is in use: .*$"):
        serve(of_folders({"toy": serving / "toy"}), Options(**{"port": 0, "rest_port": 0} | {field: used}))


def test_one_port_for_both_is_one_line(serving: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"^port {port} of 127.0.0.1 is in use: .*$"):
        serve(of_folders({"toy": serving / "toy"}), Options(port=port, rest_port=port))


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no such host", 0)])
def test_an_address_that_cannot_be_had_is_one_line(serving: Path, host: str, port: int) -> None:
    with pytest.raises(InputError, match=f"^cannot listen on port {port} of {host}: [^\n]+$"):
        serve(of_folders({"toy": serving / "toy"}), Options(host=host, port=0, rest_port=port))


def test_sigterm_ends_a_server_that_has_answered_what_was_under_way_with_0(serving: Path) -> None:
    with server_process({"toy": serving / "toy"}) as (child, line, _, rest):
        port = int(rest.rpartition(":")[2])
        assert line.startswith("serving grpc://127.0.0.1:")
        assert line.endswith(f" http://127.0.0.1:{port}/v1/models/toy\n")
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)  # kept open: it must not hold the end
        idle.request("POST", "/v1/models/toy:predict", BODY)
        assert idle.getresponse().read() == ANSWER
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY))
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            child.send_signal(signal.SIGTERM)
            assert idle.sock.recv(1) == b"", "the server does not close what is idle"
            assert child.poll() is None, "the server did not wait"
            connection.sendall(BODY)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert child.wait(60) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""


def test_a_second_signal_ends_the_server_at_once(serving: Path) -> None:
    with (server_process({"toy": serving / "toy"}) as (child, _, _, rest),
          socket.create_connection(("127.0.0.1", int(rest.rpartition(":")[2])), timeout=30) as connection):
        connection.sendall(POST + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        child.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == -signal.SIGINT


def test_importing_the_server_imports_nothing_heavy() -> None:
    code = ("import sys, trt_pipeline.serve; sys.exit(any(name in sys.modules for name in "
            "('tensorflow', 'grpc', 'uvicorn', 'starlette', 'onnxruntime', 'tensorflow_serving')))")
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          check=False).returncode == 0
