"""Publish a SavedModel where TensorFlow Serving looks for it: ``serving/NAME/VERSION/``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_pipeline.publish import checksums, seal, versions
from trt_pipeline.publish.seal import Evidence


def publish(source: Path, serving: Path, name: str, manifest: dict[str, Any], keep: int | None,
            again: bool = False, added: Mapping[str, Path | str] | None = None,
            evidence: Evidence | None = None) -> tuple[int, bool]:
    """Publish the SavedModel folder ``source`` as the next version of ``name``.

    Args:
        manifest: what is known of the candidate; its ``digest`` tells whether the newest version
            is this very candidate, in which case nothing is published unless ``again``.
        keep: newest versions to keep; None keeps all.
        added: files that the version gets besides, by path in it: a file to copy, or a text. Those that the
            SavedModel brings itself stay as they are. The manifest names what was ``added``.
        evidence: what says where the version comes from.

    Returns:
        The version that now holds it, and whether it is new.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    folder = serving / name
    known = versions.existing(folder)
    if not again and is_newest(folder, manifest):
        versions.prune(folder, keep, serving)
        return known[-1], False
    version = known[-1] + 1 if known else 1
    with versions.staging(serving) as scratch:
        staged = scratch / "version"
        versions.copy(source, staged)
        manifest = manifest | {"added": _add(added, staged)} if added else manifest
        (staged / versions.MANIFEST).write_text(versions.manifest_text(manifest))
        seal.seal(staged, evidence, seal.IN_SAVED_MODEL, manifest.get("added", ()))
        versions.place(staged, folder / str(version))
    versions.prune(folder, keep, serving)
    return version, True


def is_newest(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the newest version below ``folder`` is the candidate that ``manifest`` is about.

    One whose own manifest is damaged is not: what is carried over from that would pass for whole.
    """
    known = versions.existing(folder)
    newest = (versions.manifest(folder, known[-1]) if known else None) or {}
    return bool(newest.get("digest") == manifest["digest"]
                and checksums.holds(folder / str(known[-1]), versions.MANIFEST))


def _add(files: Mapping[str, Path | str], version: Path) -> list[str]:
    """Put ``files`` into the folder ``version``, but for those that are there; returns what it got."""
    new = [name for name in files if not (version / name).exists()]
    for name in new:
        target, content = version / name, files[name]
        target.parent.mkdir(exist_ok=True)
        if isinstance(content, str):
            target.write_text(content)
        else:
            shutil.copyfile(content, target)
    return new
