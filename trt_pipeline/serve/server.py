"""The server: gRPC and HTTP in one event loop, from loading the models to its orderly end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from trt_pipeline import device
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen
from trt_pipeline.serve.batching_parameters import BatchingParameters
from trt_pipeline.serve.models_config import ServerConfig, of_folders

_GRACE_SECONDS = 30.0  # for requests under way when the server is asked to stop


class Options(Frozen):
    """How the server listens and computes."""

    host: str = "127.0.0.1"
    port: int = 8500
    """Of gRPC; 0 takes a free one."""
    rest_port: int = 8501
    """Of HTTP; 0 takes a free one."""
    batching: BatchingParameters | None = None
    """None runs every request by itself."""
    threads: int = os.cpu_count() or 1
    """Requests, or batches of them, that are computed at once."""
    poll_seconds: float = 1.0
    """Between two looks for new versions."""
    body_limit: int = 64 * 2**20
    """The largest body of an HTTP request, in bytes."""


class Addresses(NamedTuple):
    """Where a server answers."""

    grpc: str
    """As `grpc.insecure_channel` takes it: ``127.0.0.1:8500``."""
    rest: str
    """``http://127.0.0.1:8501``"""


def serve(config: ServerConfig, options: Options = Options()) -> None:  # noqa: B008  (it is immutable)
    """Serve what ``config`` says until SIGINT or SIGTERM; then finish what is under way and return.

    Runs in the main thread. A second signal ends the process at once.

    Raises:
        ModelError: there is no model, or one cannot be loaded.
        InputError: an address is in use or cannot be listened on.
    """
    def ready(addresses: Addresses, names: list[str]) -> None:
        where = " ".join(f"{addresses.rest}/v1/models/{quote(name, safe='')}" for name in names)
        print(f"serving grpc://{addresses.grpc} {where}", file=sys.stderr, flush=True)

    _share_cores(options)
    with _Listeners(options) as listeners, _loaded(config, options) as core:
        _run(core, listeners, options, ready, _stop_at_signal)


@contextmanager
def running(models: ServerConfig | Mapping[str, Path], **options: Any) -> Iterator[Addresses]:
    """A whole server in a thread of this process, on free ports, while the context lasts.

    Args:
        models: what to serve, or the base path of each model by its name.
        options: fields of `Options`.
    """
    config = models if isinstance(models, ServerConfig) else of_folders(models)
    chosen = Options(**({"port": 0, "rest_port": 0, "poll_seconds": 0.2} | options))
    started = threading.Event()
    found: list[Addresses] = []
    stops: list[Callable[[], None]] = []

    def ready(addresses: Addresses, names: list[str]) -> None:
        found.append(addresses)
        started.set()

    def stop_when_asked(stop: Callable[[], None]) -> Callable[[], None]:
        stops.append(stop)
        return lambda: None

    with _Listeners(chosen) as listeners, _loaded(config, chosen) as core:
        thread = threading.Thread(target=_run, args=(core, listeners, chosen, ready, stop_when_asked), name="serve")
        thread.start()
        try:
            while not started.wait(0.1):
                if not thread.is_alive():
                    raise RuntimeError("the server did not start: its thread's traceback says why")
            yield found[0]
        finally:
            for stop in stops:
                stop()
            thread.join()


def _share_cores(options: Options) -> None:
    """Give each batch that runs at once its part of the cores, unless the user has said how many threads it gets.

    TensorFlow would have every run use them all, and spend more on the threads' waiting for each other than they
    bring. All its sessions share one pool of a size fixed by the first, so this is for the process.
    """
    if options.batching:
        at_once = options.batching.num_batch_threads or options.threads
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))


class _Listeners:
    """The two ports, taken before any model is loaded so that a port in use is told at once.

    gRPC binds for itself, later; that its port is free is tried here.

    Raises:
        InputError: an address is in use or cannot be listened on.
    """

    def __init__(self, options: Options) -> None:
        if options.port:
            _bound(options.host, options.port).close()
        self.http = _bound(options.host, options.rest_port)
        self.grpc = _joined(self.http.getsockname()[0], options.port)

    def __enter__(self) -> _Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


@contextmanager
def _loaded(config: ServerConfig, options: Options) -> Iterator[Any]:
    """The models, loaded, and what runs and counts them, as a `Core`."""
    from trt_pipeline.serve.batching import Batching
    from trt_pipeline.serve.core import Core
    from trt_pipeline.serve.gpu_room import check_room
    from trt_pipeline.serve.metrics import Metrics
    from trt_pipeline.serve.store import ModelStore

    device.grow()
    check_room(config)
    store = ModelStore(config, poll_seconds=options.poll_seconds)
    metrics = Metrics(store)
    try:
        store.start()
        yield Core(store, Batching(options.batching, options.threads, metrics), metrics)
    finally:
        store.stop()


def _run(core: Any, listeners: _Listeners, options: Options, ready: Callable[[Addresses, list[str]], None],
         arrange: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
    """Serve until the function that ``arrange`` is given is called; what it returns undoes the arrangement."""
    async def main() -> None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(asked.set)

        async with _serving(core, listeners, options) as addresses:
            undo = arrange(stop)
            ready(addresses, core.store.names())
            await asked.wait()
        undo()

    asyncio.run(main())


@asynccontextmanager
async def _serving(core: Any, listeners: _Listeners, options: Options) -> AsyncIterator[Addresses]:
    from trt_pipeline.serve import grpc_service

    server = grpc_service.server(core)
    try:
        port = server.add_insecure_port(listeners.grpc)
    except RuntimeError:
        raise _in_use(options.host, options.port) from None
    await server.start()
    http = _http_server(core, options)
    answering = asyncio.create_task(http.serve([listeners.http]))
    while not http.started and not answering.done():
        await asyncio.sleep(0.01)
    if answering.done():
        await server.stop(None)
        _listening(answering, options)
    host, rest_port = listeners.http.getsockname()[:2]
    try:
        yield Addresses(_joined(host, port), f"http://{_joined(host, rest_port)}")
    finally:
        http.should_exit = True
        await asyncio.gather(server.stop(_GRACE_SECONDS), answering)
        await core.batching.close()


def _listening(answering: asyncio.Task[None], options: Options) -> None:
    """Raise why HTTP is not answered: a bound port can still be taken by who listens on it first, gRPC included."""
    try:
        answering.result()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(options.host, options.rest_port) from None
        raise


def _http_server(core: Any, options: Options) -> Any:
    import uvicorn

    from trt_pipeline.serve.asgi import RestApplication

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:  # they end both servers, so they are not uvicorn's alone
            yield

    return Server(uvicorn.Config(
        RestApplication(core, options.body_limit), http="h11", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, timeout_keep_alive=60, timeout_graceful_shutdown=int(_GRACE_SECONDS)))


def _stop_at_signal(stop: Callable[[], None]) -> Callable[[], None]:
    """Have the first SIGINT or SIGTERM stop the server and the second end the process."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        stop()

    previous = {number: signal.signal(number, first) for number in numbers}

    def undo() -> None:
        for number, action in previous.items():
            signal.signal(number, action)

    return undo


def _bound(host: str, port: int) -> socket.socket:
    listener = None
    try:
        if not 0 <= port < 2**16:  # getaddrinfo takes it, less so many times 65536
            raise OverflowError("ports go from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise _in_use(host, port) from None
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on port {port} of {host}: {reason}; choose another host or port") from None
    return listener


def _in_use(host: str, port: int) -> InputError:
    return InputError(f"port {port} of {host} is in use: stop what listens there or choose another port "
                      "(0 takes a free one)")


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
