"""The ranges file: what calibration measured, as JSON that any machine can make and people can read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from trt_pipeline.calibration.facts import CalibrationFacts, TensorHistogram
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen

FILE = "ranges.json"
"""What the file is called in a run's folder, and beside what was quantized by it."""
Method = Literal["minmax", "percentile", "entropy", "mse"]
Range = tuple[float, float]


class SignatureRanges(Frozen):
    """The ranges of one signature's tensors by scoped name (`model.scoped`), in its canonical graph."""

    ranges: dict[str, Range]
    """What int8 is to cover, by the file's method: of what can be quantized."""
    extents: dict[str, Range]
    """The smallest and the largest value seen, of every float32 tensor."""

    def of(self, tensor: str) -> Range | None:
        """What int8 is to cover of ``tensor``; None where it was never seen."""
        return self.ranges.get(tensor, self.extents.get(tensor))


class RangesFile(Frozen):
    """What a calibration found, and what it was made from."""

    format: Literal[1] = 1
    method: str
    model_digest: str
    samples_digest: str
    count: int
    """Samples of the signature that had the most."""
    skipped: dict[str, str] = {}
    """Signatures that were to be measured and could not, each with why."""
    signatures: dict[str, SignatureRanges]
    histograms: tuple[TensorHistogram, ...] = ()
    """For a reader (`facts.CalibrationFacts`); nothing is converted by them."""

    @property
    def facts(self) -> CalibrationFacts:
        """What a report says of it."""
        return CalibrationFacts(method=self.method, samples=self.count, histograms=self.histograms,
                                tensors={name: len(one.extents) for name, one in self.signatures.items()})

    def signature(self, name: str, file: Path) -> SignatureRanges:
        """The ranges of signature ``name``. Raises InputError where ``file`` has none for it."""
        if name not in self.signatures:
            why = self.skipped.get(name, "calibrate with samples for it")
            raise InputError(f"{file} has no ranges for signature {name}: it has {', '.join(self.signatures)}; {why}")
        return self.signatures[name]


def write(file: Path, found: RangesFile) -> None:
    """Write ``found`` to ``file``, one tensor a line, so that two files can be compared by `diff`."""
    head = found.model_dump(mode="json")
    signatures, histograms = head.pop("signatures"), head.pop("histograms")
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    blocks = []
    for name, one in signatures.items():
        tables = [f"   {json.dumps(table)}: {{\n" + ",\n".join(
            f"    {json.dumps(tensor)}: {json.dumps(bounds)}" for tensor, bounds in one[table].items()) + "\n   }"
            for table in ("ranges", "extents")]
        blocks.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(tables) + "\n  }")
    shown = ",\n".join(f"  {json.dumps(one)}" for one in histograms)
    file.write_text("{\n" + "\n".join(lines) + '\n "signatures": {\n' + ",\n".join(blocks) + "\n }"
                    + (f',\n "histograms": [\n{shown}\n ]' if shown else "") + "\n}\n")


def read(file: Path, model_digest: str) -> RangesFile:
    """The ranges file ``file`` of the model with this digest.

    Raises:
        InputError: it cannot be read, was made for another model, or a range is inverted or not finite.
    """
    try:
        known = RangesFile.model_validate_json(file.read_text())
    except OSError as error:
        raise InputError(f"the ranges file {file} cannot be read: {error.strerror}") from None
    except (ValidationError, UnicodeDecodeError):
        raise InputError(f"{file} is no ranges file: make one with trt-pipeline calibrate") from None
    if known.model_digest != model_digest:
        raise InputError(f"{file} was made for another model: calibrate this one")
    for signature, tables in known.signatures.items():
        for tensor, (low, high) in (*tables.ranges.items(), *tables.extents.items()):
            if not low <= high:
                raise InputError(f"{file}: signature {signature}: the range of {tensor} is [{low}, {high}]: "
                                 "the smaller number comes first")
            if not (math.isfinite(low) and math.isfinite(high)):
                raise InputError(f"{file}: signature {signature}: the range of {tensor} is [{low}, {high}]: "
                                 "calibrate on samples on which it stays finite")
    return known
