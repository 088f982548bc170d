"""The statement that a published version brings along, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_pipeline.frozen import Frozen
from trt_pipeline.provenance import sbom, statement
from trt_pipeline.publish import seal
from trt_pipeline.publish.triton_config import PLATFORMS, SAVED_MODELS

FILE = "provenance.json"
_PLACES = (seal.IN_SAVED_MODEL, *dict.fromkeys(f"{target}/{seal.IN_SAVED_MODEL}" for kind, (_, target)
                                               in PLATFORMS.items() if kind in SAVED_MODELS), seal.BESIDE)


class Said(Frozen):
    """What the statement of a version says."""

    file: str
    """Where it lies in the version's folder."""
    subjects: dict[str, str]
    """Path in the version's folder -> SHA-256, of the files that are the model."""
    materials: str
    """SHA-256 of the bill of materials beside it."""
    run: str
    """``NAME/RUN_ID``."""
    finished: str
    """When, in UTC."""
    model: str
    """`digest.of_folder` of the original."""

    @property
    def companions(self) -> dict[str, str | None]:
        """Path of the statement and of what lies beside it -> the digest that it says, where it says one."""
        place = self.file.removesuffix(FILE)
        return {self.file: None, f"{place}{sbom.FILE}": self.materials}


def read(version: Path) -> Said | None:
    """What the statement in the folder ``version`` says; None without one.

    Raises:
        ValueError: it is no statement of this pipeline's, or cannot be read; the message names the file.
    """
    for place in _PLACES:
        file = f"{place}/{FILE}" if place else FILE
        try:
            if (version / file).is_file():
                return _said(file, json.loads((version / file).read_bytes()))
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
        except (KeyError, TypeError, ValueError, StopIteration):
            raise ValueError(f"{file} is no statement that this version of trt-pipeline reads") from None
    return None


def _said(file: str, document: Mapping[str, Any]) -> Said:
    if (document["_type"], document["predicateType"]) != (statement.TYPE, statement.PREDICATE_TYPE):
        raise ValueError("another kind of document")
    details, built = document["predicate"]["runDetails"], document["predicate"]["buildDefinition"]
    return Said(
        file=file, subjects={one["name"]: one["digest"]["sha256"] for one in document["subject"]},
        materials=next(one["digest"]["sha256"] for one in details["byproducts"] if one["name"] == sbom.FILE),
        run=details["metadata"]["invocationId"], finished=details["metadata"]["finishedOn"],
        model=next(one["digest"][statement.FOLDER_DIGEST] for one in built["resolvedDependencies"]
                   if one["name"] == "model"))
