"""The worker's side of `worker.run`: import one function, call it, write what came of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from trt_pipeline.errors import one_line
from trt_pipeline.parentage import die_with


def main(job_file: str, result_file: str, progress_fd: str) -> None:
    """Run the job in ``job_file``; write ``{"value": ...}`` or ``{"error": type, "message": line}``."""
    job = json.loads(Path(job_file).read_text())
    die_with(job["parent"])
    _be_killed_first()

    def progress(done: int, total: int) -> None:
        os.write(int(progress_fd), f"{done} {total}\n".encode())

    try:
        module, _, name = job["function"].partition(":")
        value = getattr(importlib.import_module(module), name)(progress=progress, **job["arguments"])
        document: dict[str, Any] = {"value": value}
    except Exception as error:  # everything goes back to the run as a reason; the log has the trace
        traceback.print_exc()
        document = {"error": type(error).__name__, "message": one_line(error, longest=500)}
    staged = Path(result_file + ".part")
    staged.write_text(json.dumps(document))
    staged.rename(result_file)
    # Some libraries crash in their exit handlers; the result is delivered, so leave at once.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _be_killed_first() -> None:
    """Under memory pressure the kernel should take the worker, not the run."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main(*sys.argv[1:4])
