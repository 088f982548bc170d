"""Numbered version folders: a version appears by one rename, complete or not at all, and goes by one."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trt_pipeline.errors import OutputError, one_line
from trt_pipeline.publish import checksums

MANIFEST = "trt_pipeline.json"
_STAGING_PREFIX = ".staging-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def existing(folder: Path) -> list[int]:
    """The version numbers below ``folder``, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if is_version(p.name) and p.is_dir())


def is_version(name: str) -> bool:
    """Whether servers take a folder of this name for a version: digits that Python and C agree on."""
    return name.isascii() and name.isdecimal()


def latest_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the newest version below ``folder``, or None."""
    versions = existing(folder)
    return manifest(folder, versions[-1]) if versions else None


def manifest(folder: Path, version: int) -> dict[str, Any] | None:
    """The manifest of one version below ``folder``, or None where it has none that can be read."""
    return manifest_in(folder / str(version))


def manifest_in(version: Path) -> dict[str, Any] | None:
    """The manifest in the folder of a version, or None where it has none that can be read."""
    try:
        document = json.loads((version / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """The file `MANIFEST`."""
    return json.dumps(manifest, indent=2) + "\n"


@contextmanager
def publishing(serving: Path) -> Iterator[None]:
    """Hold the folder ``serving``: of runs that publish into it, whatever they work in, one does at a time.

    The lock is on the folder itself, so nothing is left in it, and the kernel lets go when the
    process dies.

    Raises:
        OutputError: the folder cannot be made.
    """
    try:
        serving.mkdir(parents=True, exist_ok=True)
        folder = os.open(serving, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _output_error(serving, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # a publication takes seconds
        yield
    finally:
        os.close(folder)


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A folder on the same file system as the publications, outside of every folder that a server watches.

    Raises:
        OutputError: the disk is full or ``root`` cannot be written; nothing is left behind.
    """
    folder: Path | None = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(_STAGING_PREFIX + "*"):
            if not _alive(leftover.name):
                shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_STAGING_PREFIX}{os.getpid()}-", dir=root))
        folder.chmod(0o755)
        yield folder
    except (OSError, shutil.Error) as error:
        raise _output_error(root, error) from error
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def place(staged: Path, destination: Path) -> None:
    """Make ``staged`` appear as ``destination``; all of its bytes are on the disk first."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    _sync(staged)
    os.rename(staged, destination)
    _sync_folder(destination.parent)


def exchange(staged: Path, destination: Path) -> None:
    """Swap two folders in one step, so that no moment lacks either. ``staged`` then holds the old one.

    Where the system cannot (not Linux), there is a moment between two renames.
    """
    _sync(staged)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(destination), _RENAME_EXCHANGE) == 0:
            _sync_folder(destination.parent)
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), "cannot exchange", str(destination))
    aside = staged.with_name(staged.name + "-old")
    os.rename(destination, aside)
    os.rename(staged, destination)
    os.rename(aside, staged)


def write(root: Path, files: Mapping[Path, str | bytes | None], summed: Path | None = None) -> None:
    """Make each file, at a path below ``root``, appear with its content in one rename, or go where that is None.

    Files that have their content already are left alone. All of it is on the disk before the first file changes, and
    they change in the order of ``files``.

    Args:
        summed: the folder, above all of ``files``, whose checksums are to follow; it gets some where it has none.

    Raises:
        OutputError: the disk is full or ``root`` cannot be written.
    """
    wanted = {path: content.encode() if isinstance(content, str) else content for path, content in files.items()}
    changed = {path: content for path, content in wanted.items()
               if (path.read_bytes() if path.is_file() else None) != content}
    sums = _sums(summed, wanted) if summed else b""
    if not changed and (summed is None or sums == _sums_there(summed)):
        return
    with staging(root) as scratch:
        staged = {path: scratch / str(number) for number, path in enumerate(changed)}
        for path, content in changed.items():
            if content is not None:
                staged[path].write_bytes(content)
        (scratch / checksums.NEXT).write_bytes(sums)
        _sync(scratch)
        with _summing(summed, scratch / checksums.NEXT):
            for path, content in changed.items():
                if content is None:
                    path.unlink()
                else:
                    os.replace(staged[path], path)
            for folder in {path.parent for path in changed}:
                _sync_folder(folder)


@contextmanager
def _summing(folder: Path | None, staged: Path) -> Iterator[None]:
    """Change files of ``folder`` between the two steps in which its checksums become what is ``staged``."""
    if folder is None:
        yield
        return
    now, coming = folder / checksums.FILE, folder / checksums.NEXT
    os.replace(staged, coming)
    _sync_folder(folder)
    yield
    if checksums.parse(coming.read_bytes()):
        os.replace(coming, now)
    else:
        now.unlink(missing_ok=True)
        coming.unlink()
    _sync_folder(folder)


def _sums(folder: Path, written: Mapping[Path, bytes | None]) -> bytes:
    """The checksums of ``folder`` once it has what is ``written``."""
    new = {path.relative_to(folder).as_posix(): content for path, content in written.items()}
    sums = {name: content for name, content in checksums.settled(folder, new).items() if name not in new}
    sums |= {name: hashlib.sha256(content).hexdigest() for name, content in new.items() if content is not None}
    return checksums.text(sums)


def _sums_there(folder: Path) -> bytes:
    """The checksums of ``folder``, of nothing without any; no such file where a writer was killed."""
    if (folder / checksums.NEXT).exists():
        return b""
    return (folder / checksums.FILE).read_bytes() if (folder / checksums.FILE).is_file() else checksums.text({})


def prune(folder: Path, keep: int | None, root: Path, spared: Collection[int] = ()) -> list[int]:
    """Remove all but the newest ``keep`` versions below ``folder`` (None keeps all) and those that are ``spared``.

    Returns the versions that were removed.
    """
    gone = [version for version in (existing(folder)[:-keep] if keep else []) if version not in spared]
    if gone:
        with staging(root) as scratch:
            for version in gone:
                os.rename(folder / str(version), scratch / f"pruned-{version}")
    return gone


def copy(source: Path, target: Path) -> None:
    """Copy a file or folder, following links: a publication shares nothing with the work folder."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=False)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _output_error(root: Path, error: OSError) -> OutputError:
    cause = error.args[0] if error.args else None
    full = getattr(error, "errno", None) == errno.ENOSPC or (
        isinstance(cause, list) and any(os.strerror(errno.ENOSPC) in str(item) for item in cause))
    if full:
        return OutputError(f"disk full while publishing to {root}: free some space and run again; "
                           "nothing half-written is left")
    reason = error.strerror or one_line(error)
    return OutputError(f"cannot publish to {root}: {reason}; choose another folder or mend its permissions")


def _alive(name: str) -> bool:
    pid = name.removeprefix(_STAGING_PREFIX).partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
