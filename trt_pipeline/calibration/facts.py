"""What a report says of a calibration: by which method, on how much, and what the ranges leave out."""

from __future__ import annotations

from trt_pipeline.frozen import Frozen


class TensorHistogram(Frozen):
    """How often a tensor took which values on the calibration samples, and which of them int8 covers."""

    signature: str
    tensor: str
    """Its scoped name (`model.scoped`)."""
    low: float
    """The smallest value seen."""
    high: float
    """The largest value seen."""
    range: tuple[float, float]
    """What int8 covers."""
    clipped: float
    """Share of the elements outside ``range``, from 0 to 1."""
    counts: tuple[int, ...]
    """Elements by bins of equal width, from ``low`` to ``high``."""


class CalibrationFacts(Frozen):
    """A calibration without its ranges."""

    method: str
    samples: int
    """Of the signature that had the most."""
    tensors: dict[str, int]
    """Signature -> float32 tensors that were measured."""
    histograms: tuple[TensorHistogram, ...] = ()
    """Those of the tensors that lose most by their range first, then of the widest; none where the ranges file
    that a run was given has none."""
