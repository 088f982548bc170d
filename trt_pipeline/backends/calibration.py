"""What int8 calibration is fed: a signature's samples, few enough and one at a time."""

from __future__ import annotations

from collections.abc import Iterator

from trt_pipeline.backends.base import Array, ConversionRequest
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.samples.store import Samples

# Ranges settle long before.
_MOST_SAMPLES = 128


class CalibrationBatches:
    """The calibration samples of one signature; each pass over it reads them anew.

    One sample at a time: true lengths, and memory bounded by one sample.
    """

    def __init__(self, request: ConversionRequest, signature: SignatureContract) -> None:
        self._samples = Samples(request.samples[signature.name], request.padding)
        self._rows = self._samples.batches(signature.fixed_batch or 1, _MOST_SAMPLES)
        self._signature = signature

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for rows in self._rows:
            feeds = self._samples.take(rows)
            yield feeds | self._signature.left_out(feeds)
