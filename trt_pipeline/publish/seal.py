"""The last that a version gets before it appears: what says where it comes from, and the checksums of all of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from trt_pipeline.model.contract import PROVENANCE_FOLDER
from trt_pipeline.publish import checksums
from trt_pipeline.publish.versions import MANIFEST

Evidence = Callable[[Mapping[str, str]], Mapping[str, bytes]]
"""What says where a version comes from: path -> SHA-256 of the files that are the model, to name -> content."""
IN_SAVED_MODEL = f"assets.extra/{PROVENANCE_FOLDER}"
"""Where a SavedModel has it."""
BESIDE = ""
"""Where a version has it whose model is a file."""


def seal(version: Path, evidence: Evidence | None, place: str, added: Collection[str] = ()) -> None:
    """Complete the staged folder ``version``.

    What another publication said of itself goes: a SavedModel that was published may be published again.

    Args:
        place: `IN_SAVED_MODEL`, that below the folder of a SavedModel, or `BESIDE`.
        added: files that may change while the version stays, which are no part of the model.
    """
    (version / checksums.NEXT).unlink(missing_ok=True)
    if place:
        shutil.rmtree(version / place, ignore_errors=True)
    sums = checksums.of_folder(version)
    if evidence:
        (version / place).mkdir(parents=True, exist_ok=True)
        model = {name: content for name, content in sums.items() if name != MANIFEST and name not in added}
        for file, content in evidence(model).items():
            (version / place / file).write_bytes(content)
            sums[f"{place}/{file}" if place else file] = hashlib.sha256(content).hexdigest()
    (version / checksums.FILE).write_bytes(checksums.text(sums))
