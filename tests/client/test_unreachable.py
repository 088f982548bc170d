"""Servers that do not answer, and addresses that are none: one line that says so, in every protocol."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from trt_pipeline import client
from trt_pipeline.errors import InputError

SCHEMES = ["grpc", "http", "triton+grpc", "triton+http"]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of what takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_server(scheme: str, nobody: str) -> None:
    address = f"{scheme}://{nobody}"
    with client.connect(address) as server:
        assert not server.ready()
        with pytest.raises(client.UnreachableError) as failed:
            server.metadata("toy")
    assert str(failed.value).startswith(f"{address}: no server answers (")
    assert "\n" not in str(failed.value)
    assert (failed.value.code, failed.value.exit_status) == ("UNAVAILABLE", 3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_server_for_asyncio(scheme: str, nobody: str) -> None:
    async def ask() -> None:
        async with client.connect_async(f"{scheme}://{nobody}") as server:
            await server.status("toy")

    with pytest.raises(client.UnreachableError, match="no server answers"):
        asyncio.run(ask())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_answer_in_time(scheme: str, silent: str) -> None:
    with client.connect(f"{scheme}://{silent}", timeout=60) as server, pytest.raises(client.RequestError) as failed:
        server.metadata("toy", timeout=0.2)
    assert failed.value.code == "DEADLINE_EXCEEDED"


def test_json_of_another_server_is_no_answer() -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"hello": []}')

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        with client.connect(f"http://127.0.0.1:{other.server_port}") as server, pytest.raises(
                client.RequestError, match=r"the answer is without 'metadata\.signature_def"):
            server.metadata("toy")


@pytest.mark.parametrize(("address", "complaint"), [
    ("localhost:8500", "write SCHEME://HOST:PORT with SCHEME one of grpc, http, https, triton"),
    ("gprc://localhost", "did you mean 'grpc'"),
    ("grpc://", "write it as grpc://localhost:8500"),
    ("http://localhost:port", "write it as http://localhost:8501"),
    ("triton+grpc://localhost:8001/v2", "gRPC has no paths"),
])
def test_addresses_that_are_none(address: str, complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        client.connect(address)
    assert complaint in str(refused.value)


def test_a_server_is_left_with_async_with_only() -> None:
    server = client.connect_async("grpc://localhost")
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(server.status("toy"))
