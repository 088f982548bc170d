"""One candidate in a process of its own, timed inside it: memory and load time are its alone.

This is the parent's end; `runner_main` is the child's. They speak JSON lines: a load request
first, then one per block of requests, each answered by one line.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from trt_pipeline import gpu_memory, interpreter
from trt_pipeline.backends.base import Artifact
from trt_pipeline.errors import ERROR_TYPES
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract


class Side(Frozen):
    """What one side of a comparison has to load."""

    backend: str
    artifact: Artifact
    folder: Path
    contract: Contract
    samples: dict[str, Path]
    padding: dict[str, int]
    threads: int | None = None
    python: Path | None = None
    """The interpreter to run it under; this one by default."""


class RunnerProcess:
    """The parent's end: start, `load`, then `time` blocks; a context manager."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._process = subprocess.Popen(
            interpreter.command(side.python, "trt_pipeline.benchmarking.runner_main", str(os.getpid())),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=interpreter.variables(side.python))

    def __enter__(self) -> RunnerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def load(self) -> dict[str, float]:
        """Load the candidate; returns load_s."""
        answer: dict[str, float] = self._ask(json.loads(self.side.model_dump_json()))
        return answer

    def time(self, signature: str, blocks: list[list[int]]) -> list[float]:
        """Seconds that each request took; a request is a batch of sample rows."""
        seconds: list[float] = self._ask({"signature": signature, "blocks": blocks})["seconds"]
        return seconds

    def peak_memory_mb(self) -> float:
        """Largest resident memory so far."""
        return float(self._ask({"memory": True})["peak_memory_mb"])

    def gpu_memory_mb(self) -> float | None:
        """GPU memory that it holds now, its CUDA context included; None without a GPU.

        None too where the driver does not know the process by this number, as in some containers. The libraries give
        nothing back while they live, so at the end it is the peak.
        """
        held = gpu_memory.used_by(self._process.pid)
        return None if held is None else held / gpu_memory.MB

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the {self.side.backend} runner died with status {self._process.wait()}")
        answer = json.loads(line)
        if answer.get("kind") in ERROR_TYPES:
            raise ERROR_TYPES[answer["kind"]](answer["error"])
        if "error" in answer:
            raise RuntimeError(f"the {self.side.backend} runner: {answer['error']}")
        return answer
