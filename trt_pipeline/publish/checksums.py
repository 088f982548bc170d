"""`SHA256SUMS`: what every file of a folder was when it was published, as ``sha256sum --check`` reads it.

Its last line is a comment to sha256sum, and the digest of the lines above: the file vouches for itself.

Where several files change, `NEXT` appears before the first of them, with what all of them will be, and becomes
`FILE` after the last. A writer that is killed in between leaves both, and each file is what one of them says.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from trt_pipeline import digest

FILE, NEXT = "SHA256SUMS", "SHA256SUMS.next"
KEY = "checksums"
"""Key of a version's manifest: the file that its checksums are in."""
_LAST = b"# sha256 of the lines above: "
_LINE = re.compile(rb"(\\?)([0-9a-f]{64})  (.+)")
# As sha256sum writes what would break a line.
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_PLAIN = {written: plain for plain, written in _ESCAPED.items()}


def text(sums: Mapping[str, str]) -> bytes:
    """The file; ``sums`` maps a path below the folder to the SHA-256 of its bytes, in hex."""
    lines = b"".join(sorted(_line(name, content) for name, content in sums.items()))
    return lines + _LAST + hashlib.sha256(lines).hexdigest().encode() + b"\n"


def parse(content: bytes) -> dict[str, str]:
    """What the file says. Raises ValueError where any byte of it is not as `text` wrote it."""
    sums = {}
    for line in content.split(b"\n")[:-2]:
        if not (found := _LINE.fullmatch(line)):
            raise ValueError("a line is no checksum")
        name = os.fsdecode(found[3])
        sums[re.sub(r"\\.", lambda escape: _PLAIN.get(escape[0], ""), name) if found[1] else name] = found[2].decode()
    if text(sums) != content:
        raise ValueError("it does not hold by its own last line")
    return sums


def read(folder: Path, name: str = FILE) -> dict[str, str] | None:
    """What the checksums of ``folder`` say; None without any. Raises ValueError where they are damaged."""
    try:
        return parse((folder / name).read_bytes())
    except FileNotFoundError:
        return None


def of_folder(folder: Path) -> dict[str, str]:
    """The checksums of all files below ``folder`` but of those of checksums themselves."""
    return {name: digest.of_file(folder / name) for name, regular in entries(folder)
            if regular and name not in (FILE, NEXT)}


def entries(folder: Path, within: str = "") -> Iterator[tuple[str, bool]]:
    """All below ``folder`` that is no folder, by path, and whether it is a regular file; links are not followed."""
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from entries(Path(entry.path), f"{within}{entry.name}/")
            else:
                yield f"{within}{entry.name}", entry.is_file(follow_symlinks=False)


def settled(folder: Path, rewritten: Collection[str] = ()) -> dict[str, str]:
    """The checksums of ``folder`` as they stand; nothing where there are none that can be read.

    After a writer that was killed, those of the files as it left them, but for the ``rewritten`` ones.
    """
    try:
        now, coming = read(folder) or {}, read(folder, NEXT) or {}
    except ValueError:
        return {}
    if not coming:
        return now
    for name in {name for name in {*now, *coming} - {*rewritten} if now.get(name) != coming.get(name)}:
        there = digest.of_file(folder / name) if (folder / name).is_file() else None
        if there == coming.get(name):
            now.pop(name, None)
            now |= {name: there} if there else {}
    return now


def holds(folder: Path, name: str) -> bool:
    """Whether the file ``name`` is what the checksums of ``folder`` say, or there are none."""
    try:
        known = [sums for file in (FILE, NEXT) if (sums := read(folder, file)) is not None]
    except ValueError:
        return False
    there = digest.of_file(folder / name) if (folder / name).is_file() else None
    return not known or any(sums.get(name) == there for sums in known)


def _line(name: str, content: str) -> bytes:
    escaped = re.sub(r"[\\\n\r]", lambda found: _ESCAPED[found[0]], name)
    return b"%s%s  %s\n" % (b"\\" if escaped != name else b"", content.encode(), os.fsencode(escaped))
