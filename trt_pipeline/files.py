"""Files that appear whole or not at all, and folders that are shown in several places."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from trt_pipeline.errors import OutputError


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


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; readers find the old file or the whole new one. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a disk that is full or refuses into the one line that it deserves.

    Raises:
        OutputError: nothing can be written to ``folder``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}; free some space or choose another "
                          "folder with --output") from error
