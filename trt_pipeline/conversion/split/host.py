"""The parts of a split signature that stay in TensorFlow, as a SavedModel."""

from __future__ import annotations

import keyword
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from trt_pipeline.conversion import rebuild
from trt_pipeline.conversion.split.split import Split

HOST = "host"
"""The folder of that SavedModel, beside the core's ONNX file."""
BEFORE, AFTER = "before", "after"
"""Its signatures; only what there is."""


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def argument(name: str) -> str:
    """What those signatures call their input ``name``: TensorFlow does not save arguments of every name."""
    if _PLAIN.fullmatch(name) and not keyword.iskeyword(name):
        return name
    return f"hex_{name.encode().hex()}"


def write_host(loaded: Any, split: Split, folder: Path) -> None:
    """Write ``split``'s parts before and after the core as the signatures `BEFORE` and `AFTER` of one SavedModel.

    Their inputs are called as `argument` says. The tables that they use and the assets of these go along. A split
    signature that has no such part writes nothing.

    Args:
        loaded: the SavedModel that was split, loaded with `tf.saved_model.load`.
        folder: to write; must not exist.
    """
    parts = {BEFORE: split.before, AFTER: split.after}
    if not split.whole:
        graphs = {name: replace(part, inputs={argument(key): tensor for key, tensor in part.inputs.items()})
                  for name, part in parts.items() if part is not None}
        rebuild.write_functions(loaded, graphs, folder)
