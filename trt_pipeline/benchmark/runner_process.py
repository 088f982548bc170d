"""One candidate in a process of its own, timed inside it: memory and load time are its alone.

Speaks JSON lines: a load request first, then one per block; each answered by one line.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, Runner
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.parentage import die_with
from trt_pipeline.samples.store import Samples


class Side(Frozen):
    """What one side of a comparison has to load."""

    backend: str
    artifact: Artifact
    folder: Path
    contract: Contract
    samples: dict[str, Path]
    padding: dict[str, int]
    threads: int | None = None


class RunnerProcess:
    """The parent's end: start, `load`, then `time` blocks; a context manager."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trt_pipeline.benchmark.runner_process", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

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
        if "error" in answer:
            raise RuntimeError(f"the {self.side.backend} runner: {answer['error']}")
        return answer


def serve(requests: TextIO, answers: TextIO) -> None:
    """The child's end."""
    side = Side.model_validate_json(next(requests))
    started = time.perf_counter()
    runner = backend(side.backend).load(side.artifact, side.folder, side.contract, side.threads)
    runner.activate()
    _answer(answers, {"load_s": time.perf_counter() - started})
    samples = {name: Samples(folder, side.padding) for name, folder in side.samples.items()}
    for line in requests:
        request = json.loads(line)
        try:
            _answer(answers, _handle(request, runner, samples))
        except Exception as error:  # reported to the parent, which decides
            _answer(answers, {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"})


def _handle(request: dict[str, Any], runner: Runner, samples: dict[str, Samples]) -> dict[str, Any]:
    if "memory" in request:
        return {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    signature = request["signature"]
    batches = [samples[signature].take(rows) for rows in request["blocks"]]
    seconds = []
    for feeds in batches:
        started = time.perf_counter()
        runner.infer(signature, feeds)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds}


def _answer(answers: TextIO, document: dict[str, Any]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


def main() -> None:
    """Entry of the child process."""
    die_with(int(sys.argv[1]))
    # Libraries that print must not write into the protocol.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
