"""Keep what was counted so far, so that a calibration that was killed goes on where it stood."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.calibration.histogram import Extent, Histogram
from trt_pipeline.errors import OutputError

Counts = dict[str, Extent]


class Checkpoint:
    """One file, or none at all where ``file`` is None.

    What it holds belongs to one ``key``: a digest of all that the counts depend on. A file with
    another key, or one that cannot be read, is taken for none and written over.
    """

    def __init__(self, file: Path | None, key: str) -> None:
        self.file, self._key = file, key

    def read(self, signature: str, counts: Counts) -> int:
        """Fill ``counts``, which must be fresh, with what was kept of ``signature``.

        Returns:
            Batches that it counted; 0, and ``counts`` untouched, where nothing fitting was kept.
        """
        if self.file is None:
            return 0
        try:
            with np.load(self.file, allow_pickle=False) as kept:
                if str(kept["key"]) != self._key or f"{signature}/done" not in kept.files:
                    return 0
                histograms, extents = _parted(counts)
                if kept[f"{signature}/tensors"].tolist() != [*histograms, *extents]:
                    return 0
                states = _states(signature, kept, len(histograms))
                found = {name: type(counts[name]).from_state(state)
                         for name, state in zip([*histograms, *extents], states, strict=True)}
                done = int(kept[f"{signature}/done"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return 0
        counts.update(found)
        return done

    def write(self, signatures: dict[str, tuple[int, Counts]]) -> None:
        """Keep the counts of these signatures, each with the number of batches that it counted.

        Raises:
            OutputError: the file cannot be written.
        """
        if self.file is None:
            return
        arrays: dict[str, Any] = {"key": np.array(self._key)}
        for signature, (done, counts) in signatures.items():
            histograms, extents = _parted(counts)
            states = [counts[name].state() for name in [*histograms, *extents]]
            arrays[f"{signature}/done"] = np.int64(done)
            arrays[f"{signature}/tensors"] = np.array([*histograms, *extents], np.str_)
            for part in ("extent", "counts", "bins"):
                arrays[f"{signature}/{part}"] = np.array([state[part] for state in states if part in state], np.int64)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.file.parent, prefix=f"{self.file.name}-", delete=False) as draft:
                np.savez(draft, **arrays)
            os.replace(draft.name, self.file)
        except OSError as error:
            for leftover in self.file.parent.glob(f"{self.file.name}-*"):
                leftover.unlink(missing_ok=True)
            raise OutputError(f"the checkpoint {self.file} cannot be written: {error.strerror}") from None

    def remove(self) -> None:
        """Forget everything."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def _parted(counts: Counts) -> tuple[list[str], list[str]]:
    """Names of the histograms, and of what has only an extent."""
    histograms = [name for name, one in counts.items() if isinstance(one, Histogram)]
    return histograms, [name for name in counts if name not in set(histograms)]


def _states(signature: str, kept: Any, histograms: int) -> list[dict[str, npt.NDArray[np.int64]]]:
    extent, counts, bins = (kept[f"{signature}/{part}"] for part in ("extent", "counts", "bins"))
    return [{"extent": row} | ({"counts": counts[number], "bins": bins[number]} if number < histograms else {})
            for number, row in enumerate(extent)]
