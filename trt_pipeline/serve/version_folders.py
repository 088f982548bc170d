"""The folders of a model's versions on the disk."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline.publish.versions import is_version

LOADABLE = ("saved_model.pb", "model.savedmodel", "model.onnx")
"""What a version's folder holds one of: a SavedModel's file, or what Triton looks for."""
_LARGEST = 2**63 - 1


def versions_below(base: Path) -> dict[int, Path] | None:
    """Version -> its folder, of every folder below ``base`` that has a number for a name; None without ``base``."""
    try:
        folders = [path for path in base.iterdir() if is_version(path.name) and path.is_dir()]
    except OSError:
        return None
    return {int(path.name): path for path in sorted(folders) if int(path.name) <= _LARGEST}
