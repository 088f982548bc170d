"""Cores of a machine that are one candidate's alone, so that no benchmark is disturbed by another.

Ray counts cores and leaves open which. Here each is a file, and whoever holds its lock has it: the kernel lets go of
it when its holder dies, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trt_pipeline.errors import ConfigError

_POLL_S = 0.1


def folder() -> Path:
    """Where this user's locks and scratch folders lie on this machine."""
    return Path(tempfile.gettempdir()) / f"trt-pipeline-{os.getuid()}"


@contextlib.contextmanager
def claimed(count: int) -> Iterator[tuple[int, ...]]:
    """Have ``count`` cores for this process and what it starts, as soon as so many are free; yields their numbers.

    Raises:
        ConfigError: this process may not use so many.
    """
    allowed = os.sched_getaffinity(0)
    if count > len(allowed):
        raise ConfigError(f"Ray lends {count} cores of {platform.node()}, which has {len(allowed)} for this user: give "
                          f"--cpus {len(allowed)}, or start the node with so many")
    with contextlib.ExitStack() as held:
        cores = _claim(sorted(allowed), count, held)
        os.sched_setaffinity(0, cores)
        try:
            yield cores
        finally:
            os.sched_setaffinity(0, allowed)


def _claim(allowed: list[int], count: int, held: contextlib.ExitStack) -> tuple[int, ...]:
    """Lock ``count`` cores, all or none: two that wait for each other's would wait for ever."""
    locks = folder() / "cores"
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.ExitStack() as attempt:
            got = []
            for core in allowed:
                file = attempt.enter_context((locks / str(core)).open("w"))
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    got.append(core)
                if len(got) == count:
                    held.push(attempt.pop_all())
                    return tuple(got)
        time.sleep(_POLL_S)
