"""The child's end of `runner_process`: load one candidate, time blocks of requests, say what they took."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any, TextIO

from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Runner
from trt_pipeline.benchmarking.runner_process import Side
from trt_pipeline.errors import MissingError, one_line
from trt_pipeline.parentage import die_with
from trt_pipeline.samples.store import Samples


def serve(requests: TextIO, answers: TextIO) -> None:
    """Load what the first line names, then answer every other."""
    side = Side.model_validate_json(next(requests))
    chosen = backend(side.backend)
    if why := chosen.why_pending(side.artifact):
        _answer(answers, {"error": f"{side.backend} cannot be timed here: {why}", "kind": MissingError.__name__})
        return
    started = time.perf_counter()
    runner = chosen.load(side.artifact, side.folder, side.contract, side.threads)
    runner.activate()
    _answer(answers, {"load_s": time.perf_counter() - started})
    samples = {name: Samples(folder, side.padding) for name, folder in side.samples.items()}
    for line in requests:
        request = json.loads(line)
        try:
            _answer(answers, _handle(request, runner, samples))
        except Exception as error:  # reported to the parent, which decides
            _answer(answers, {"error": f"{type(error).__name__}: {one_line(error)}"})


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
