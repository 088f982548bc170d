"""The ranges file: what calibration measured, as JSON that any machine can make and people can read."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from trt_pipeline.conversion.tftrt.quantize import Ranges
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen


class RangesFile(Frozen):
    """Smallest and largest value of tensors, by signature and tensor name."""

    method: str
    model_digest: str
    signatures: dict[str, dict[str, tuple[float, float]]]


def write(file: Path, found: RangesFile) -> None:
    """Write ``found`` to ``file``, one tensor a line."""
    file.write_text(json.dumps(found.model_dump(mode="json"), indent=1) + "\n")


def read(file: Path, signature: str, model_digest: str) -> Ranges | None:
    """The ranges of ``signature`` in ``file``; None where it has none for it.

    Raises:
        InputError: it cannot be read, was made for another model, or a range is inverted.
    """
    try:
        known = RangesFile.model_validate_json(file.read_text())
    except OSError as error:
        raise InputError(f"the ranges file {file} cannot be read: {error.strerror}") from None
    except (ValidationError, UnicodeDecodeError):
        raise InputError(f"{file} is no ranges file: calibrate the model to make one") from None
    if known.model_digest != model_digest:
        raise InputError(f"{file} was made for another model: calibrate this one")
    ranges = known.signatures.get(signature)
    for name, (low, high) in (ranges or {}).items():
        if not low <= high:
            raise InputError(f"{file}: the range of {name} is [{low}, {high}]: the smaller number comes first")
    return ranges
