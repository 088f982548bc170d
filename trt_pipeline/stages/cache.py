"""Results of stages, kept under a key of everything that went into them.

The one mechanism behind resuming a killed run and repeating a finished one: an entry appears by a
rename, complete or not at all, and whoever has the same key has the same result.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.environment import environment
from trt_pipeline.frozen import Frozen


class Entry(Frozen):
    """One stage's kept result."""

    folder: Path
    value: Any
    seconds: float
    peak_memory_mb: float

    @property
    def files(self) -> Path:
        """Folder of the files that the stage made."""
        return self.folder / "files"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


class StageCache:
    """A folder of entries; used by one run at a time (`stages.lock`)."""

    def __init__(self, root: Path, *, clean: bool = True) -> None:
        """``clean``: remove what a killed run left in work."""
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob("staging-*") if clean else ():
            shutil.rmtree(leftover, ignore_errors=True)

    def find(self, stage: str, key: str) -> Entry | None:
        """The entry of ``stage`` under ``key``, or None."""
        folder = self._folder(stage, key)
        try:
            document = json.loads((folder / "result.json").read_text())
            # Files that were changed since are not what the kept results speak of.
            if document.pop("files_digest") != digest.of_folder(folder / "files"):
                return None
            return Entry(folder=folder, **document)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None

    def stage(self) -> Path:
        """A fresh folder to work in; `keep` makes it an entry."""
        return Path(tempfile.mkdtemp(prefix="staging-", dir=self.root))

    def keep(self, stage: str, key: str, staging: Path, value: Any, seconds: float, peak_memory_mb: float) -> Entry:
        """Turn ``staging`` into the entry of ``key``, in one rename."""
        document = {"value": value, "seconds": seconds, "peak_memory_mb": peak_memory_mb}
        (staging / "result.json").write_text(json.dumps(
            document | {"files_digest": digest.of_folder(staging / "files")}))
        return Entry(folder=self.take(stage, key, staging), **document)

    def take(self, stage: str, key: str, entry: Path) -> Path:
        """Make the folder ``entry``, complete with its result.json, the one under ``key``; returns where it is then."""
        folder = self._folder(stage, key)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(entry, folder)
        return folder

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / f"{stage}-{key[:24]}"


def key_of(parts: dict[str, Any]) -> str:
    """The key of ``parts`` on this machine with these libraries and this version of the pipeline."""
    return digest.of_value({"parts": parts, "pipeline": digest.of_this_package(), "environment": environment()})
