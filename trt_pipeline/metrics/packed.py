"""What a metric's worker needs that has no file of its own, as files named after their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

SUFFIX = ".pickle"


def write(content: bytes, folder: Path) -> Path:
    """The file of ``content`` in ``folder``; it appears by one rename, and one that is there already stays."""
    file = folder / f"{digest(content)[:24]}{SUFFIX}"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{file.name}.{os.getpid()}"
        draft.write_bytes(content)
        draft.replace(file)
    return file


def digest(content: bytes) -> str:
    """SHA-256 of ``content``, in hex."""
    return hashlib.sha256(content).hexdigest()
