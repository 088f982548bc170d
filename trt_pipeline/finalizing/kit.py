"""What a candidate takes along to be judged on another machine: samples, the original's answers, the gate.

A candidate that only a GPU can run is converted where there is none; with its kit, the machine that has
one needs neither the original nor the samples' sources.
"""

from __future__ import annotations

from pathlib import Path

from trt_pipeline import frozen
from trt_pipeline.config.schema import BenchmarkSettings
from trt_pipeline.files import folder_of, link_tree
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples.profiles import Profile

FOLDER = "kit"
_INDEX = "kit.json"
_REFERENCE, _SAMPLES, _CALIBRATION = "reference", "samples", "calibration"


class Kit(Frozen):
    """The index of a kit; its folder holds the stored outputs and samples."""

    contract: Contract
    signatures: tuple[str, ...]
    reference: Reference
    gate: Gate
    padding: dict[str, int]
    profiles: tuple[Profile, ...]
    benchmark: BenchmarkSettings

    def samples(self, folder: Path) -> dict[str, Path]:
        """Signature -> its validation samples, in the kit at ``folder``."""
        return self._stores(folder / _SAMPLES)

    def calibration(self, folder: Path) -> dict[str, Path]:
        """Signature -> its calibration samples; only those signatures that have some."""
        return {name: path for name, path in self._stores(folder / _CALIBRATION).items() if path.is_dir()}

    def _stores(self, folder: Path) -> dict[str, Path]:
        return {name: folder / folder_of(name) for name in self.signatures}


def write(kit: Kit, folder: Path, reference: Path, samples: dict[str, Path], calibration: dict[str, Path]) -> None:
    """Write ``kit`` to the new folder ``folder``, with what lies in the other folders; linked where the disk allows."""
    folder.mkdir(parents=True)
    (folder / _INDEX).write_text(kit.model_dump_json(exclude_none=True))
    link_tree(reference, folder / _REFERENCE)
    for kind, stores in ((_SAMPLES, samples), (_CALIBRATION, calibration)):
        for name, store in stores.items():
            (folder / kind / folder_of(name)).mkdir(parents=True)
            link_tree(store, folder / kind / folder_of(name))


def read(folder: Path) -> Kit:
    """The kit at ``folder``.

    Raises:
        InputError: there is none, or another version wrote it.
    """
    return frozen.read(
        Kit, folder / _INDEX, outdated="make the candidate again",
        absent=f"{folder.parent} has no samples and answers to be judged by: give --reference MODEL and --samples, or "
               "a candidate of a run")


def reference_folder(folder: Path) -> Path:
    """Where the kit at ``folder`` keeps the original's outputs."""
    return folder / _REFERENCE
