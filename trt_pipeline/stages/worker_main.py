"""The worker's side of `worker.run`: import one function, call it, write what came of it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from trt_pipeline.errors import one_line
from trt_pipeline.parentage import die_with

# What workers import from where they run; nothing above does, so what is missing can be said in a line.
_NEEDED = (("tensorrt", "polygraphy"), ("tensorflow", "numpy", "pydantic"))


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
        if isinstance(error, ModuleNotFoundError) and (packages := _missing(error)):
            document = {"error": "MissingError", "message": f"{sys.executable} lacks {', '.join(packages)}: "
                        f"{sys.executable} -m pip install {' '.join(packages)}"}
    staged = Path(result_file + ".part")
    staged.write_text(json.dumps(document))
    staged.rename(result_file)
    # Some libraries crash in their exit handlers; the result is delivered, so leave at once.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _missing(error: ModuleNotFoundError) -> list[str]:
    """The packages to install; none where the one that was asked for is there and only a part of it is not."""
    package = (error.name or "").partition(".")[0]
    if not package or importlib.util.find_spec(package):
        return []
    needed = next((names for names in _NEEDED if package in names), ())
    return [name for name in needed if not importlib.util.find_spec(name)] or [package]


def _be_killed_first() -> None:
    """Under memory pressure the kernel should take the worker, not the run."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main(*sys.argv[1:4])
