"""One run of a model at a time: a lock that the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trt_pipeline.errors import OutputError


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold ``folder`` for this process.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder or mend its "
                          "permissions") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            raise OutputError(f"{what}: another run (process {holder}) is at work in {folder}; wait for it or "
                              "use --output") from None
        os.truncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)
