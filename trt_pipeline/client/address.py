"""From an address to a server that speaks its protocol."""

from __future__ import annotations

import importlib
from typing import NamedTuple
from urllib.parse import urlsplit

from trt_pipeline.client.protocol import Protocol
from trt_pipeline.client.server import AsyncServer, Server
from trt_pipeline.errors import InputError, MissingError
from trt_pipeline.suggest import did_you_mean


class _Kind(NamedTuple):
    module: str
    protocol: str
    port: int


_KINDS = {
    "grpc": _Kind("tf_serving_grpc", "TFServingGrpc", 8500),
    "http": _Kind("tf_serving_rest", "TFServingRest", 8501),
    "https": _Kind("tf_serving_rest", "TFServingRest", 443),
    "triton+grpc": _Kind("triton_grpc", "TritonGrpc", 8001),
    "triton+http": _Kind("triton_http", "TritonHttp", 8000),
    "triton+https": _Kind("triton_http", "TritonHttp", 443),
}


def connect(address: str, *, timeout: float = 60.0) -> Server:
    """The server at ``address``; a context manager. Nothing is sent yet.

    Args:
        address: ``grpc://HOST:PORT``, ``http://HOST:PORT``, ``triton+grpc://HOST:PORT`` or ``triton+http://HOST:PORT``;
            without a port, the one that such a server usually listens on.
        timeout: seconds that a request may take, unless it says otherwise.

    Raises:
        InputError: it is no such address.
        MissingError: a package that speaks its protocol is missing.
    """
    return Server(_protocol(address, timeout))


def connect_async(address: str, *, timeout: float = 60.0) -> AsyncServer:
    """As `connect`, for ``async with``."""
    return AsyncServer(_protocol(address, timeout))


def _protocol(address: str, timeout: float) -> Protocol:
    scheme, separator, _ = address.partition("://")
    if not separator or scheme not in _KINDS:
        raise InputError(f"'{address}' is no server's address: write SCHEME://HOST:PORT with SCHEME one of "
                         f"{', '.join(_KINDS)}{did_you_mean(scheme, _KINDS) if separator else ''}")
    kind = _KINDS[scheme]
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or kind.port
    except ValueError:
        host, port = None, 0
    if not host:
        raise InputError(f"'{address}' is no server's address: write it as {scheme}://localhost:{kind.port}")
    if "grpc" in scheme and parts.path.strip("/"):
        raise InputError(f"'{address}': gRPC has no paths: leave '{parts.path}' out")
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        module = importlib.import_module(f"trt_pipeline.client.{kind.module}")
    except ImportError as error:
        raise MissingError(f"{scheme}:// needs the package {error.name}: pip install 'trt-pipeline[serving]'") from None
    target = where if "grpc" in scheme else f"{scheme.removeprefix('triton+')}://{where}{parts.path.rstrip('/')}"
    made: Protocol = getattr(module, kind.protocol)(address, target, timeout)
    return made
