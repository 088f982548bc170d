"""Hear what TensorFlow's C++ code says: it writes to stderr, and knows no other way out."""

from __future__ import annotations

import os
import sys
import tempfile
from types import TracebackType
from typing import IO


class Listener:
    """Catches what is written to this process's stderr; a context manager, for workers.

    What was caught is passed on at the end.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._kept = -1
        self._said = b""
        self._told = 0

    def __enter__(self) -> Listener:
        sys.stderr.flush()
        self._kept = os.dup(2)
        self._file = tempfile.TemporaryFile()
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        assert self._file
        sys.stderr.flush()
        self._said = self._read(0)
        os.dup2(self._kept, 2)
        os.close(self._kept)
        self._file.close()
        self._file = None
        with os.fdopen(os.dup(2), "wb") as passed_on:
            passed_on.write(self._said)

    @property
    def text(self) -> str:
        """Everything that was caught so far."""
        return (self._read(0) if self._file else self._said).decode(errors="replace")

    def news(self) -> str:
        """What was caught since this was last asked; only while it listens."""
        fresh = self._read(self._told)
        self._told += len(fresh)
        return fresh.decode(errors="replace")

    def _read(self, start: int) -> bytes:
        assert self._file
        return os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size - start, start)
