"""`trt-pipeline serve` in a process of its own, as users start it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import NamedTuple

import pytest

from tests.conftest import ROOT


class ServerProcess(NamedTuple):
    """A server that answers."""

    process: subprocess.Popen[bytes]
    line: str
    """What it printed when it was ready; `stderr` of ``process`` has what it prints after."""
    grpc: str
    """``127.0.0.1:40721``"""
    rest: str
    """``http://127.0.0.1:38911``"""


@contextmanager
def server_process(models: Mapping[str, Path], *options: str) -> Iterator[ServerProcess]:
    """Serve ``models``, name -> base path, on free ports; killed at the end, if it still runs."""
    command = [sys.executable, "-m", "trt_pipeline", "serve", "--port", "0", "--rest-port", "0",
               *(f"--model={name}={base}" for name, base in models.items()), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        too_long = Timer(120, process.kill)
        too_long.start()
        said = []
        try:
            for line in map(bytes.decode, process.stderr):
                said.append(line)
                if found := re.match(r"serving grpc://(\S+) (http://[^/]+)/", line):
                    too_long.cancel()
                    yield ServerProcess(process, line, *found.groups())
                    break
            else:
                pytest.fail(f"the server did not start: {''.join(said)}")
        finally:
            too_long.cancel()
            process.kill()
