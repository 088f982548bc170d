"""The real tritonserver, of nvidia-pytriton's wheel, on model repositories as they are published.

The wheel has Triton's core, its protocols and its Python backend. What the images have in C++, the backends
``onnxruntime`` and ``tensorflow``, are Python files here (``backends/``) that Triton takes for backends of those
names, so that a repository is served as it is, to the last byte.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

HOST = "127.0.0.1"
BACKENDS = ("onnxruntime", "tensorflow")
_OWN = Path(__file__).parent / "backends"
# Where to look for ports: below those that the kernel gives to clients, so that none is taken by one in between.
_PORTS = (20_000, 32_000)
_ATTEMPTS = 3


@dataclass(frozen=True)
class Triton:
    """A running server; addresses are host:port."""

    http: str
    grpc: str
    metrics: str
    log: Path

    def get(self, path: str, address: str | None = None) -> bytes:
        """The body of the answer to a GET; of the metrics' address, for example."""
        status, body = _get(address or self.http, path)
        assert status == http.client.OK, (path, status, body)
        return body

    def errors(self) -> str:
        """What its log has of errors, a line each."""
        return _errors(self.log)


class StartError(RuntimeError):
    """The server did not become ready; the message has its log's errors."""


@functools.cache
def why_not() -> str:
    """Why there can be no server here; empty where there can."""
    wheel = _wheel()
    if wheel is None:
        return "nvidia-pytriton is not installed"
    if not _stub(wheel).is_file():
        return f"nvidia-pytriton has no stub for Python {sys.version_info.major}.{sys.version_info.minor}"
    # A stub that cannot start makes Triton wait for it for ever.
    linked = subprocess.run(["ldd", str(_stub(wheel))], capture_output=True, text=True, check=False,
                            env=os.environ | _libraries(wheel)).stdout
    missing = [line.split()[0] for line in linked.splitlines() if "not found" in line]
    return f"Triton's Python backend needs {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def serving(repository: Path, *flags: str, deadline_s: float = 300) -> Iterator[Triton]:
    """Serve ``repository`` until the block ends; it is ready when the block begins. Skips where there is no server.

    Args:
        flags: more of tritonserver's own, such as ``--model-control-mode=explicit``.

    Raises:
        StartError: a model cannot be loaded, or not within ``deadline_s``.
    """
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="triton-") as scratch:
        _lay_out_backends(Path(scratch, "backends"))
        for attempt in range(_ATTEMPTS):
            log = Path(scratch, f"log-{attempt}.txt")
            ports = _free_ports(3)
            process = _start(repository, Path(scratch, "backends"), ports, log, flags)
            server = Triton(*(f"{HOST}:{port}" for port in ports), log)
            try:
                if _wait_until_ready(process, server, time.monotonic() + deadline_s):
                    yield server
                    return
            finally:
                _kill(process)
        raise StartError(f"no ports are free for tritonserver:\n{_errors(log)}")


def _wheel() -> Path | None:
    found = importlib.util.find_spec("pytriton")
    return Path(found.origin).parent / "tritonserver" if found and found.origin else None


def _stub(wheel: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return wheel / "python_backend_stubs" / version / "triton_python_backend_stub"


def _libraries(wheel: Path) -> dict[str, str]:
    folders = (str(wheel.parents[1] / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR")))
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)}


def _lay_out_backends(target: Path) -> None:
    """The wheel's Python backend with the stub of this Python, and ours, each a folder of what it needs."""
    wheel = _wheel()
    assert wheel
    shutil.copytree(wheel / "backends/python", target / "python")
    (target / "python" / _stub(wheel).name).symlink_to(_stub(wheel))
    for name in BACKENDS:
        shutil.copytree(_OWN / name, target / name)
        for shared in _OWN.glob("*.py"):
            shutil.copy(shared, target / name)


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(range(*_PORTS), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise StartError("no ports are free")


def _start(repository: Path, backends: Path, ports: Sequence[int], log: Path,
           flags: Sequence[str]) -> subprocess.Popen[bytes]:
    wheel = _wheel()
    assert wheel
    command = [
        str(wheel / "bin/tritonserver"), f"--model-repository={repository}", f"--backend-directory={backends}",
        f"--cache-directory={wheel / 'caches'}", "--allow-gpu-metrics=false",
        *(f"--{kind}-{part}" for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True)
          for part in (f"address={HOST}", f"port={port}")), *flags]
    # The interpreter inside the stub takes the environment of the first python3 on the path for its own.
    environment = os.environ | _libraries(wheel) | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])), "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                env=environment, start_new_session=True)


def _wait_until_ready(process: subprocess.Popen[bytes], server: Triton, deadline: float) -> bool:
    """Whether it is ready; False where another process was quicker to take a port."""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            if "in use" in _errors(server.log) or "failed to listen" in _errors(server.log).lower():
                return False
            raise StartError(f"tritonserver ended with {process.returncode}:\n{_errors(server.log)}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _get(server.http, "/v2/health/ready")[0] == http.client.OK and all(
                    map(_listens, (server.grpc, server.metrics))):
                return True
        time.sleep(0.1)
    raise StartError(f"tritonserver is not ready in time:\n{_errors(server.log)}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the server with its stubs; asked to, it takes seconds, and while it loads a model it does not listen."""
    shared = _shared_memory(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for name in shared:
        Path(name).unlink(missing_ok=True)


def _shared_memory(group: int) -> set[str]:
    """The files through which a server and its stubs talk: they stay where it is killed, or crashes."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == group:
                lines = (process / "maps").read_text().splitlines()
                found |= {line[line.index("/dev/shm/"):] for line in lines if "/dev/shm/triton" in line}
    return found


def _get(address: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _errors(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    # That there is no GPU is no error.
    found = [line for line in lines if line.startswith("E") and "CudaDriverHelper" not in line]
    return "\n".join(found[-20:])
