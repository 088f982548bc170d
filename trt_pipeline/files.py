"""Folders that are shown in several places, and their names."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from urllib.parse import quote


def folder_of(name: str) -> str:
    """The folder for what may be called anything, '/' and '..' included, as signatures may."""
    quoted = quote(name, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def link_tree(source: Path, target: Path) -> None:
    """Show ``source``, or its files, as or below ``target`` without a second copy, where the disk allows."""
    for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
        link = target / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():
            link.symlink_to(os.readlink(file))
        elif file.is_file():
            with contextlib.suppress(OSError):
                os.link(file, link)
            if not link.exists():
                shutil.copyfile(file, link)
