"""Publish for every target of a configuration what `select` chose for it, and what its servers need to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.backends.base import Artifact
from trt_pipeline.config.schema import Config
from trt_pipeline.model.contract import Contract
from trt_pipeline.publish import (
    batching,
    checksums,
    memory,
    record,
    select,
    served,
    serving_folder,
    tf_serving,
    triton,
    version_policy,
    versions,
    warm_up,
)
from trt_pipeline.publish.batching import Batches
from trt_pipeline.publish.layout import TRITON_FOLDER
from trt_pipeline.publish.memory import Memory
from trt_pipeline.publish.record import Record
from trt_pipeline.publish.seal import Evidence
from trt_pipeline.results import CandidateResult, Publication
from trt_pipeline.samples.store import Samples

WriteWarmUp = Callable[[Artifact, tuple[int, ...]], Path]
"""Writes the warm-up records of an artifact at these batch sizes, and says where. Raises `NoWarmUp`."""


class NoWarmUp(Exception):
    """There are no warm-up records, and why."""


@dataclass(frozen=True)
class _Publisher:
    """What is the same for all targets."""

    config: Config
    signatures: Contract
    """The contract, of the signatures that are published."""
    samples: Mapping[str, Samples]
    write_warm_up: WriteWarmUp | None
    again: bool
    evidence: Evidence | None


def check(config: Config) -> None:
    """Refuse, before any work, what servers could not be told of the versions that are published already.

    Raises:
        ConfigError: a version is named that there is not.
    """
    if any(target.kind == "tf-serving" for target in config.targets):
        version_policy.check(config.versions, config.name, versions.existing(config.serving / config.name))


def publish_all(config: Config, contract: Contract, signatures: tuple[str, ...],
                candidates: tuple[CandidateResult, ...], files: dict[str, Path], run_id: str, model_digest: str,
                again: bool, samples: Mapping[str, Samples] | None = None,
                write_warm_up: WriteWarmUp | None = None,
                evidence: Evidence | None = None, by_hand: str | None = None) -> tuple[Publication, ...]:
    """One `Publication` a target, in the config's order; rewrites the files of the serving folder.

    Args:
        files: candidate -> folder of its artifact.
        samples: signature -> real ones that servers warm up with, where there are any.
        evidence: what says of new versions where they come from (`provenance.record`).
        by_hand: the candidate that was chosen already, for all targets that can load it.

    Raises:
        OutputError: the serving folder cannot be written or the disk is full.
        ConfigError: `check`.
    """
    chosen = contract.model_copy(update={"signatures": {name: contract.signatures[name] for name in signatures}})
    publisher = _Publisher(config, chosen, samples or {}, write_warm_up, again, evidence)
    found: list[Publication] = []
    with versions.publishing(config.serving):
        check(config)
        for target in config.targets:
            choice = (select.chosen(target, candidates, by_hand, config.objective) if by_hand
                      else select.choose(target, candidates, config.objective))
            shown = f"{target.kind} {target.version}"
            if choice.candidate is None:
                found.append(Publication(target=shown, candidate=None, why=choice.why))
                continue
            candidate = next(c for c in candidates if c.name == choice.candidate)
            artifact, folder = select.form_for(target, candidate), files[candidate.name]
            assert artifact
            batches = batching.of_artifact(artifact, chosen.signatures, config.max_batch_size)
            measured = memory.of_candidate(candidate, candidates)
            manifest = (_manifest(candidate.name, artifact, folder)
                        | {"why": choice.why, "original": model_digest, "run": run_id, checksums.KEY: checksums.FILE}
                        | served.facts(batches, measured, config.padding))
            publish = _to_tf_serving if target.kind == "tf-serving" else _to_triton
            made = publish(publisher, artifact, folder, manifest, batches, measured)
            found.append(Publication(target=shown, candidate=candidate.name,
                                     why="; ".join(filter(None, (choice.why, made.why))), version=made.version,
                                     path=str(made.path), new=made.new))
        return tuple(_tell_servers(config, found))


@dataclass(frozen=True)
class _Made:
    version: int
    new: bool
    path: Path
    why: str = ""


def _to_tf_serving(publisher: _Publisher, artifact: Artifact, folder: Path, manifest: dict[str, Any],
                   batches: Batches | None, measured: Memory) -> _Made:
    config, source = publisher.config, folder / next(iter(artifact.files.values()))  # one SavedModel for all
    serving, added, why = config.serving, dict[str, Path | str](), ""
    known = versions.latest_manifest(serving / config.name) or {}
    # Of a version that stays, the requests are to fit new batches: one that is larger keeps it from loading.
    anew = (publisher.again or not tf_serving.is_newest(serving / config.name, manifest)
            or (warm_up.RECORDS in known.get("added", ()) and known.get("batches") != manifest["batches"]))
    if batches and batches.uniform and not (source / batching.PER_VERSION).exists():
        added[batching.PER_VERSION] = batching.text(batches)
    if anew and publisher.write_warm_up and not (source / warm_up.RECORDS).exists():
        try:
            added[warm_up.RECORDS] = publisher.write_warm_up(artifact, batches.sizes if batches else (1,))
        except NoWarmUp as error:
            why = f"no warm-up records: {error}"
    version, new = tf_serving.publish(source, serving, config.name, manifest, None, publisher.again, added,
                                      publisher.evidence)
    path = serving / config.name / str(version)
    if not new:
        _refresh(serving, path, manifest, added, {batching.PER_VERSION} | ({warm_up.RECORDS} if anew else set()))
    return _Made(version, new, path, why)


def _refresh(serving: Path, path: Path, manifest: dict[str, Any], added: Mapping[str, Path | str],
             renewed: Set[str]) -> None:
    """Bring up to date what a version has beside its model, which is the same, and what it says of itself.

    Args:
        added: the files that it gets; those of ``renewed`` that it was given before and are not among them go.
    """
    known = versions.manifest(path.parent, int(path.name)) or {}
    before = [name for name in known.get("added", ()) if name not in added]
    fresh = known | {key: manifest[key] for key in served.facts(None, Memory(), {})}
    fresh["added"] = [*added, *(name for name in before if name not in renewed)]
    if not fresh["added"]:
        del fresh["added"]
    gone = {path / name: None for name in before if name in renewed}
    given = {path / name: content if isinstance(content, str) else content.read_bytes()
             for name, content in added.items()}
    there = {file: content for file, content in given.items() if file.exists()}
    # Wherever this is cut off, the manifest names no less than there is, and no batches that its requests exceed.
    files = {**gone, **there, path / versions.MANIFEST: versions.manifest_text(fresh), **given}
    versions.write(serving, files, path if _summed(path) else None)


def _summed(version: Path) -> bool:
    """Whether a version has checksums that hold by themselves; others are not made to pass for whole."""
    try:
        return checksums.read(version) is not None
    except ValueError:
        return False


def _to_triton(publisher: _Publisher, artifact: Artifact, folder: Path, manifest: dict[str, Any],
               batches: Batches | None, measured: Memory) -> _Made:
    config, signatures = publisher.config, publisher.signatures.signatures
    sizes = sorted({1, config.max_batch_size})
    requests = {name: warm_up.requests(contract, publisher.samples[name], sizes)
                for name, contract in signatures.items() if name in publisher.samples}
    repository = config.serving / TRITON_FOLDER
    version, new = triton.publish(
        artifact, folder, signatures, repository, config.name, config.max_batch_size, manifest, config.keep,
        publisher.again, requests, memory.onnxruntime_parameters(measured) if artifact.kind == "onnx" else {},
        publisher.evidence)
    first = triton.triton_name(config.name, next(iter(signatures)), list(signatures))
    return _Made(version, new, repository / first / str(version))


def _tell_servers(config: Config, publications: list[Publication]) -> list[Publication]:
    """Rewrite the files of the serving folder, prune, and say of each publication what servers do not do yet."""
    kinds = {target.kind for target, made in zip(config.targets, publications, strict=True) if made.version}
    records, serving = record.read(config.serving), config.serving
    before = records.get(config.name, Record())
    if kinds:
        records[config.name] = before.published(config, set(kinds))
    existing = served.saved_models(serving / config.name)
    if "tf-serving" in kinds:
        # Also refuses the number of a next version, which `check` allows, where none was made.
        planned = version_policy.resolve(config.versions, config.name, existing, before.policy)
        # What servers were told last is theirs until they have read the new file.
        spared = {*planned.labels.values(), *planned.held.values(), *planned.specific,
                  *(before.policy.labels.values() if before.policy else ())}
        versions.prune(serving / config.name, config.keep, serving, spared)
    policy = serving_folder.write(serving, records).get(config.name, Record()).policy
    held = [f"label {label} stays on version {policy.labels[label]} until version {version} is loaded: run optimize "
            "again then" for label, version in policy.held.items()] if policy else []
    return [made.model_copy(update={"why": "; ".join((made.why, *held))})
            if target.kind == "tf-serving" and made.version else made
            for target, made in zip(config.targets, publications, strict=True)]


def _manifest(name: str, artifact: Artifact, folder: Path) -> dict[str, Any]:
    """Which candidate this is, in which form, and a digest of what of it is published."""
    parts = {signature: (folder / file).resolve() for signature, file in sorted(artifact.files.items())}
    content = {signature: digest.of_file(path) if artifact.kind == "tensorrt-plan"
               else digest.of_folder(path if path.is_dir() else path.parent) for signature, path in parts.items()}
    known = {"built": artifact.built} if artifact.built else {}
    return {"candidate": name, "kind": artifact.kind, **known, "digest": digest.of_value([name, content])}
