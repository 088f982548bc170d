"""Conversions that go wrong in each of the ways that real ones do; imported by workers by name."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

from trt_pipeline.stages import jobs

FAULTS = {"tensorflow/fp32": "abort", "tensorflow/bf16": "segfault", "onnxruntime/fp32": "hang",
          "onnxruntime/int8": "eat"}


def convert(backend_name: str, request: dict[str, Any], **arguments: Any) -> Any:
    """The real conversion of the original; every other candidate meets its fault."""
    fault = FAULTS.get(f"{backend_name}/{request['precision']}")
    if fault:
        print(f"about to {fault}", flush=True)
        globals()[fault]()
    return jobs.convert(backend_name=backend_name, request=request, **arguments)


def abort(**_: Any) -> None:
    os.abort()


def segfault(**_: Any) -> None:
    ctypes.string_at(0)


def hang(**_: Any) -> None:
    time.sleep(3600)


def eat(**_: Any) -> None:
    """Touch 64 MB more every few milliseconds, without end."""
    held = []
    while True:
        held.append(bytearray(os.urandom(1) * (64 << 20)))
        time.sleep(0.02)


def exit_quietly(**_: Any) -> None:
    os._exit(0)


def raise_error(**_: Any) -> None:
    raise ValueError("the shapes\ndo not fit")


def answer(progress: Any, value: Any) -> Any:
    for done in range(3):
        progress(done + 1, 3)
    return {"value": value, "parent": os.getppid()}


def loaded(**_: Any) -> list[str]:
    """Packages in this worker before its work begins."""
    return sorted({name.partition(".")[0] for name in sys.modules})


def spawn_sleeper(progress: Any, pid_file: str) -> None:
    """Start a grandchild in this worker's session, then hang."""
    child = os.fork()
    if child == 0:
        time.sleep(3600)
    with open(pid_file, "w") as file:
        file.write(str(child))
    time.sleep(3600)
