"""Publish to a Triton model repository: ``serving/triton/NAME/{config.pbtxt, warmup/..., VERSION/...}``.

One Triton model serves one signature. A model with several becomes ``NAME`` for its
``serving_default`` (or only) signature and ``NAME-SIGNATURE`` for the others. Where only the numeric
core of a signature was converted, the core is the model, and a README.md beside the configuration
says what is left to the client; Triton reads neither that nor any other file that it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trt_pipeline.backends.base import Artifact
from trt_pipeline.engine import recipe
from trt_pipeline.errors import ConfigError
from trt_pipeline.model.contract import DEFAULT_SIGNATURE, SignatureContract, TensorContract
from trt_pipeline.publish import seal, triton_warm_up, versions
from trt_pipeline.publish.seal import Evidence
from trt_pipeline.publish.triton_config import PLATFORMS, SAVED_MODELS, config_text, largest_batch
from trt_pipeline.publish.triton_readme import readme_text
from trt_pipeline.publish.triton_warm_up import Request
from trt_pipeline.samples.profiles import Profile

CONFIG = "config.pbtxt"
_README = "README.md"


@dataclass(frozen=True)
class _Model:
    """One model of the repository, of which there may be versions already."""

    name: str
    signature: str
    source: Path
    """The file, or the SavedModel's folder, that a version holds as ``target``."""
    target: str
    front: dict[str, bytes]
    """Files beside the versions: path below the model's folder -> content."""


@dataclass(frozen=True)
class _Settings:
    """What a configuration says that does not follow from the artifact."""

    max_batch_size: int
    requests: Mapping[str, Sequence[Request]]
    parameters: Mapping[str, str]


def publish(artifact: Artifact, folder: Path, signatures: dict[str, SignatureContract], repository: Path, name: str,
            max_batch_size: int, manifest: dict[str, Any], keep: int | None, again: bool = False,
            requests: Mapping[str, Sequence[Request]] | None = None,
            parameters: Mapping[str, str] | None = None, evidence: Evidence | None = None) -> tuple[int, bool]:
    """Publish every signature of ``artifact`` as the next version of its Triton model.

    Args:
        folder: where the artifact's files are.
        repository: Triton's ``--model-repository``.
        max_batch_size: the largest batch that servers should form; engines may allow less.
        requests: signature -> real ones, to warm up with.
        parameters: those of Triton's backend.
        evidence: what says where the versions come from.

    Returns:
        The version of the first signature's model, and whether anything is new.

    Raises:
        ConfigError: Triton cannot serve a signature.
        OutputError: the repository cannot be written or the disk is full.
    """
    # All configurations first: one that Triton cannot have is refused before anything is published.
    settings = _Settings(max_batch_size, requests or {}, parameters or {})
    models = [_model(artifact, folder, contract, triton_name(name, signature, list(signatures)), settings)
              for signature, contract in signatures.items()]
    published = []
    for model in models:
        published.append(_publish_one(model, repository, manifest, again, evidence))
        versions.prune(repository / model.name, keep, repository.parent)
    return published[0][0], any(new for _, new in published)


def triton_name(name: str, signature: str, signatures: list[str]) -> str:
    """The Triton model that serves ``signature``."""
    plain = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else signatures[0]
    return name if signature == plain else f"{name}-{quote(signature, safe='')}"


def _model(artifact: Artifact, folder: Path, whole: SignatureContract, name: str, settings: _Settings) -> _Model:
    signature, target = whole.name, PLATFORMS[artifact.kind][1]
    if artifact.kind in SAVED_MODELS:
        front = _front(name, artifact, whole, settings)
        return _Model(name, signature, folder / next(iter(artifact.files.values())), target, front)
    source = folder / artifact.files[signature]
    contract, narrowed = artifact.core.get(signature, whole), dict[str, str]()
    profiles: tuple[Profile, ...] = ()
    if artifact.kind == "tensorrt-plan":
        if source.name != target:
            raise ConfigError(f"signature {signature} has no engine yet, {source} is what one is built from: "
                              "finalize the candidate on the GPU that is to serve it")
        narrowed = recipe.read(source.parent).narrowed
        contract, profiles = _narrowed(contract, narrowed), artifact.profiles.get(signature, ())
    front = _front(name, artifact, contract, settings, profiles)
    if text := readme_text(name, artifact, signature, contract, narrowed):
        front[_README] = text.encode()
    return _Model(name, signature, source, target, front)


def _front(name: str, artifact: Artifact, contract: SignatureContract, settings: _Settings,
           profiles: tuple[Profile, ...] = ()) -> dict[str, bytes]:
    """The configuration, and the data that it names."""
    # An engine may be of a signature's core only, which is fed something else.
    requests = () if artifact.kind == "tensorrt-plan" else settings.requests.get(contract.name, ())
    text = config_text(name, artifact.kind, contract, settings.max_batch_size, profiles, requests, settings.parameters)
    most = largest_batch(contract, settings.max_batch_size, profiles)
    return {CONFIG: text.encode(),
            **triton_warm_up.files(tuple(triton_warm_up.of_requests(requests, contract, most)))}


def _narrowed(contract: SignatureContract, names: dict[str, str]) -> SignatureContract:
    """``contract`` as an engine has it that takes int32 for ``names``."""
    def of_engine(tensors: dict[str, TensorContract]) -> dict[str, TensorContract]:
        return {name: tensor.model_copy(update={"dtype": "int32"}) if name in names else tensor
                for name, tensor in tensors.items()}

    return contract.model_copy(update={"inputs": of_engine(contract.inputs), "outputs": of_engine(contract.outputs)})


def _publish_one(model: _Model, repository: Path, manifest: dict[str, Any], again: bool,
                 evidence: Evidence | None) -> tuple[int, bool]:
    folder = repository / model.name
    known = versions.existing(folder)
    old_front = {path.relative_to(folder).as_posix(): path.read_bytes() for path in (
        folder / CONFIG, folder / _README, *(folder / triton_warm_up.FOLDER).glob("*")) if path.is_file()}
    newest = versions.latest_manifest(folder) or {}
    if not again and newest.get("digest") == manifest["digest"] and old_front == model.front:
        return known[-1], False
    version = known[-1] + 1 if known else 1
    with versions.staging(repository.parent) as scratch:
        staged = scratch / "model"
        _write_version(model, staged / str(version), manifest, evidence)
        if old_front == model.front:
            versions.place(staged / str(version), folder / str(version))
        else:
            # The configuration belongs to the version, so both must change in one step.
            _write(model.front, staged)
            _link_versions(folder, known, staged)
            if folder.exists():
                versions.exchange(staged, folder)
            else:
                versions.place(staged, folder)
    return version, True


def _write_version(model: _Model, target: Path, manifest: dict[str, Any], evidence: Evidence | None) -> None:
    versions.copy(model.source, target / model.target)
    weights = model.source.with_name(f"{model.source.name}.data")
    if weights.is_file():  # of an ONNX model that has them in a file of their own
        versions.copy(weights, target / weights.name)
    (target / versions.MANIFEST).write_text(versions.manifest_text(manifest | {"signature": model.signature}))
    # For going back to this version after another one has changed the model's configuration.
    _write(model.front, target)
    place = f"{model.target}/{seal.IN_SAVED_MODEL}" if model.source.is_dir() else seal.BESIDE
    seal.seal(target, evidence, place)


def is_front(name: str) -> bool:
    """Whether a file of a version, by its path there, is a copy of what lies beside the versions."""
    return name in (CONFIG, _README) or name.startswith(f"{triton_warm_up.FOLDER}/")


def _write(front: Mapping[str, bytes], target: Path) -> None:
    for name, content in front.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(content)


def _link_versions(model: Path, known: list[int], staged: Path) -> None:
    for version in known:
        source = model / str(version)
        for file in source.rglob("*"):
            if file.is_file():
                target = staged / str(version) / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, target)
