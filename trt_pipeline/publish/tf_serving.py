"""Publish a SavedModel where TensorFlow Serving looks for it: ``serving/NAME/VERSION/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_pipeline.publish import versions


def publish(source: Path, serving: Path, name: str, manifest: dict[str, Any], keep: int | None,
            again: bool = False) -> tuple[int, bool]:
    """Publish the SavedModel folder ``source`` as the next version of ``name``.

    Args:
        manifest: what is known of the candidate; its ``digest`` tells whether the newest version
            is this very candidate, in which case nothing is published unless ``again``.
        keep: newest versions to keep; None keeps all.

    Returns:
        The version that now holds it, and whether it is new.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    folder = serving / name
    known = versions.existing(folder)
    if not again and (versions.latest_manifest(folder) or {}).get("digest") == manifest["digest"]:
        versions.prune(folder, keep, serving)
        return known[-1], False
    version = known[-1] + 1 if known else 1
    with versions.staging(serving) as scratch:
        staged = scratch / "version"
        versions.copy(source, staged)
        (staged / versions.MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        versions.place(staged, folder / str(version))
    versions.prune(folder, keep, serving)
    return version, True
