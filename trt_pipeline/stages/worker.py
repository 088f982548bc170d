"""Run one function in a subprocess with limits, so that nothing it does can end the run.

Arguments and result are JSON. TensorFlow aborts its process when it misses a library, native code
segfaults, conversions eat memory, anything can hang: each is one `WorkerFailed` with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from trt_pipeline import interpreter
from trt_pipeline.config.schema import Limits
from trt_pipeline.errors import ERROR_TYPES
from trt_pipeline.frozen import Frozen

Progress = Callable[[int, int], None]
_POLL_S = 0.02


class WorkerFailed(Exception):
    """The worker did not deliver: it died, was stopped at a limit, or its function raised."""


class Outcome(Frozen):
    """What a worker delivered, and what it cost."""

    value: Any
    seconds: float
    peak_memory_mb: float


def run(function: Callable[..., Any], arguments: dict[str, Any], limits: Limits, log: Path,
        progress: Progress = lambda done, total: None, python: Path | None = None) -> Outcome:
    """Call ``function(progress=..., **arguments)`` in a worker.

    Args:
        function: a module-level function; it is imported by name in the worker.
        arguments: JSON values.
        log: file that gets the worker's stdout and stderr.
        progress: told of (done, total) as the function reports it.
        python: the interpreter to run it under; this one by default.

    Raises:
        WorkerFailed: with a one-line reason.
        PipelineError, Unsupported: what the function raised of these, as it was; `MissingError` where
            the interpreter lacks a package that it imports.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        job, result = Path(scratch, "job.json"), Path(scratch, "result.json")
        job.write_text(json.dumps({"function": f"{function.__module__}:{function.__qualname__}",
                                   "arguments": arguments, "parent": os.getpid()}))
        reader, writer = os.pipe()
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    interpreter.command(python, "trt_pipeline.stages.worker_main", str(job), str(result), str(writer)),
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=[writer],
                    env=interpreter.variables(python), start_new_session=True)
            os.close(writer)
            os.set_blocking(reader, False)
            started = time.monotonic()
            try:
                peak = _watch(process, limits, reader, progress)
            finally:
                _stop(process)
        finally:
            os.close(reader)
        seconds = time.monotonic() - started
        return Outcome(value=_delivered(result, process.returncode, log), seconds=seconds, peak_memory_mb=peak / 2**20)


def _watch(process: subprocess.Popen[bytes], limits: Limits, reader: int, progress: Progress) -> float:
    """Wait for the end; returns the peak memory of the worker and its children in bytes."""
    watched = psutil.Process(process.pid)
    deadline = time.monotonic() + limits.time_s
    allowed = limits.memory_gb * 2**30
    peak, pending = 0.0, b""
    while process.poll() is None:
        peak = max(peak, used := _tree_memory(watched))
        if used > allowed:
            raise WorkerFailed(f"it used {used / 2**30:.1f} GB of memory, over its limit of {limits.memory_gb:g} GB "
                               "(limits.memory_gb)")
        if time.monotonic() > deadline:
            raise WorkerFailed(f"it was still running after {limits.time_s:g} s, its limit (limits.time_s)")
        pending = _report(reader, pending, progress)
        time.sleep(_POLL_S)
    _report(reader, pending, progress)
    return peak


def _tree_memory(process: psutil.Process) -> float:
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total


def _report(reader: int, pending: bytes, progress: Progress) -> bytes:
    """Pass on complete progress lines ("done total"); returns the incomplete rest."""
    with contextlib.suppress(BlockingIOError):
        while block := os.read(reader, 65536):
            pending += block
    *lines, rest = pending.split(b"\n")
    if lines:
        done, total = lines[-1].split()
        progress(int(done), int(total))
    return rest


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the worker and everything it started; its session is its own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _delivered(result: Path, status: int, log: Path) -> Any:
    if not result.exists():
        raise WorkerFailed(_cause_of_death(status, log))
    document = json.loads(result.read_text())
    if "error" not in document:
        return document["value"]
    kind, message = document["error"], document["message"]
    if kind in ERROR_TYPES:
        raise ERROR_TYPES[kind](message)
    raise WorkerFailed(f"{kind}: {message}")


def _cause_of_death(status: int, log: Path) -> str:
    causes = {-signal.SIGABRT: "it aborted", -signal.SIGSEGV: "it crashed (segmentation fault)",
              -signal.SIGKILL: "it was killed from outside, most likely for want of memory",
              -signal.SIGILL: "it crashed (illegal instruction: a library is built for another CPU)"}
    cause = causes.get(status, f"it ended with status {status} before delivering a result")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{cause}; its last words: {lines[-1][:200]}" if lines else cause
