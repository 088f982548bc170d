"""What there is to serve below a serving folder: models, their versions, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trt_pipeline.backends.base import ArtifactKind
from trt_pipeline.config.schema import VersionSettings
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.publish import batching, triton, version_policy, versions
from trt_pipeline.publish.batching import Batches
from trt_pipeline.publish.layout import TRITON_FOLDER
from trt_pipeline.publish.memory import Memory
from trt_pipeline.publish.record import Record
from trt_pipeline.publish.triton_config import PLATFORMS
from trt_pipeline.publish.version_policy import VersionPolicy


class Version(Frozen):
    """One version as its manifest has it; without a manifest, a SavedModel of which nothing is known."""

    number: int
    kind: ArtifactKind = "savedmodel"
    built: dict[str, str] = {}
    batches: Batches | None = None
    memory: Memory = Memory()
    batched: bool = False
    """Whether TensorFlow Serving finds batching parameters in its folder."""


class Model(Frozen):
    """One model, and the versions of it that servers load."""

    name: str
    record: Record
    versions: tuple[Version, ...]
    resident: int
    """How many versions may be loaded at once."""

    @property
    def memories(self) -> list[Memory]:
        """The figures of all that may be loaded at once; a version to come is taken for the newest."""
        known = [version.memory for version in self.versions][-self.resident:]
        return known + [known[-1]] * (self.resident - len(known))


def tensorflow_models(serving: Path, records: Mapping[str, Record]) -> list[Model]:
    """The models below ``serving`` that TensorFlow Serving can load, by name, with their policies resolved anew."""
    folders = sorted(path for path in serving.iterdir() if path.is_dir() and path.name != TRITON_FOLDER)
    found = []
    for folder in folders:
        existing = saved_models(folder)
        if folder.name.startswith(".") or not existing:
            continue
        record = records.get(folder.name, Record())
        policy = _resolved(record, folder.name, existing)
        found.append(Model(name=folder.name, record=record.model_copy(update={"policy": policy}),
                           versions=tuple(read_version(folder, number) for number in policy.served),
                           resident=policy.most))
    return found


def triton_models(serving: Path, records: Mapping[str, Record]) -> list[Model]:
    """The models of the Triton repository below ``serving``; the newest version of each is served."""
    repository = serving / TRITON_FOLDER
    found = []
    for folder in sorted(repository.iterdir()) if repository.is_dir() else ():
        existing = versions.existing(folder)
        if folder.name.startswith(".") or not existing or not (folder / triton.CONFIG).is_file():
            continue
        owners = [name for name in records if folder.name == name or folder.name.startswith(f"{name}-")]
        record = records[max(owners, key=len)] if owners else Record()
        newest = read_version(folder, existing[-1])
        # Its configuration is the newest version's, and there is one for all of its versions.
        if not any((folder / str(existing[-1]) / target).exists() for _, target in PLATFORMS.values()):
            continue
        # While a new version is loaded the old one still answers.
        found.append(Model(name=folder.name, record=record, versions=(newest,), resident=2))
    return found


def saved_models(folder: Path) -> list[int]:
    """The versions below ``folder`` that are SavedModels, ascending."""
    return [version for version in versions.existing(folder) if (folder / str(version) / "saved_model.pb").is_file()]


def read_version(folder: Path, number: int) -> Version:
    """What is known of one version below ``folder``."""
    manifest: dict[str, Any] = versions.manifest(folder, number) or {}
    given = {"kind": manifest.get("kind"), "built": manifest.get("built"), "batches": manifest.get("batches"),
             "memory": manifest.get("memory_mb")}
    batched = (folder / str(number) / batching.PER_VERSION).is_file()
    try:
        return Version(number=number, batched=batched, **{key: value for key, value in given.items() if value})
    except ValidationError:
        return Version(number=number, batched=batched)


def _resolved(record: Record, name: str, existing: list[int]) -> VersionPolicy:
    try:
        return version_policy.resolve(record.versions, name, existing, record.policy)
    except ConfigError:  # versions went away by hand
        return version_policy.resolve(VersionSettings(), name, existing)


def facts(batches: Batches | None, memory: Memory, padding: Mapping[str, int]) -> dict[str, Any]:
    """The part of a manifest that servers are told by: `read_version`, and the preview server's batching."""
    return {"batches": batches.model_dump(mode="json") if batches else None,
            "memory_mb": memory.model_dump(mode="json"), "padding": dict(padding)}

