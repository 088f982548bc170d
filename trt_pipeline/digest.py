"""Content digests: what stage keys, manifests and reports call a thing's identity."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def of_folder(path: Path) -> str:
    """SHA-256 over the relative names and bytes of all files below ``path``, in name order."""
    digest = hashlib.sha256()
    for name, file in sorted(files(path)):
        digest.update(f"{name}\0{of_file(file)}\n".encode())
    return digest.hexdigest()


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """(relative name, path) of every file below ``root``, those behind links to folders too, once each."""
    visited = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link back up
            below.clear()
            continue
        visited.add(real)
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield path.relative_to(root).as_posix(), path


def of_value(value: object) -> str:
    """SHA-256 of a JSON-like value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def of_this_package() -> str:
    """Digest of the pipeline's own sources, so that no result outlives the code that made it.

    What only shows, keeps, serves or hands out results is left out.
    """
    root = Path(__file__).parent
    shown = ("ci", "cli", "cluster", "provenance", "report", "serve", "tracking")
    sources = [p for p in sorted(root.rglob("*.py")) if p.relative_to(root).parts[0] not in shown]
    return of_value([of_file(source) for source in sources])
