"""Folders as bytes, and everything of a study that a machine needs which does not share this one's disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.errors import MissingError
from trt_pipeline.stages.plan import SampleSet
from trt_pipeline.stages.study import Study

_MODEL, _RANGES, _ORIGINAL, _METRICS = "model", "ranges.json", "original", "metrics"


def packed(folder: Path) -> bytes:
    """All files that `digest.of_folder` counts, what links lead to included."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
        for name, file in digest.files(folder):
            archive.add(file, arcname=name)
    return stream.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """What `packed` made, into ``folder``."""
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")


class Parcel:
    """A study on its way to other machines.

    ``put`` makes of bytes what is cheap to send many times, as `ray.put` does, and ``get`` takes them out again.
    """

    def __init__(self, study: Study, put: Callable[[bytes], Any]) -> None:
        self._study = study
        self._package = digest.of_this_package()
        sets = [study.validation, *([study.calibration] if study.calibration else [])]
        folders = {_MODEL: study.config.model, study.reference_folder.parent.name: study.reference_folder.parent}
        folders |= {folder.name: folder for one in sets for folder in one.folders.values()}
        self._folders = {name: put(packed(folder)) for name, folder in folders.items()}
        self._ranges = study.ranges.read_bytes() if study.ranges else None
        self._metrics = {file.name: file.read_bytes() for metric in study.metrics for file in metric.files}
        self._vocabulary = {name: (path.name, path.read_bytes()) for name, path in study.config.vocabulary.items()}

    def open(self, folder: Path, get: Callable[[Any], bytes]) -> Study:
        """The study, with its files below ``folder``.

        Raises:
            MissingError: this machine has another version of this package.
        """
        if digest.of_this_package() != self._package:
            raise MissingError("a node of the cluster has another version of trt_pipeline: install the same on all")
        for name, content in self._folders.items():
            unpack(get(content), folder / name)
        study, artifact = self._study, self._study.original[0] if self._study.original else None
        vocabulary = {name: folder / f"vocabulary-{number}-{file}"
                      for number, (name, (file, _)) in enumerate(self._vocabulary.items())}
        for name, path in vocabulary.items():
            path.write_bytes(self._vocabulary[name][1])
        changes: dict[str, Any] = {
            "config": study.config.model_copy(update={"model": folder / _MODEL, "vocabulary": vocabulary}),
            "validation": _moved(study.validation, folder),
            "calibration": _moved(study.calibration, folder) if study.calibration else None,
            "reference_folder": folder / study.reference_folder.parent.name / study.reference_folder.name}
        (folder / _METRICS).mkdir()
        for name, metric_file in self._metrics.items():
            (folder / _METRICS / name).write_bytes(metric_file)
        changes["metrics"] = tuple(metric.moved(folder / _METRICS) for metric in study.metrics)
        if self._ranges is not None:
            (folder / _RANGES).write_bytes(self._ranges)
            changes["ranges"] = folder / _RANGES
        if artifact:
            (folder / _ORIGINAL).mkdir()
            for name in set(artifact.files.values()):
                (folder / _ORIGINAL / name).symlink_to(folder / _MODEL, target_is_directory=True)
            changes["original"] = artifact, folder / _ORIGINAL
        return study.model_copy(update=changes)


def _moved(samples: SampleSet, folder: Path) -> SampleSet:
    return samples.model_copy(update={"folders": {name: folder / path.name for name, path in samples.folders.items()}})
