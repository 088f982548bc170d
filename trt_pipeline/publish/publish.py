"""Publish for every target of a configuration what `select` chose for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.backends.base import Artifact
from trt_pipeline.config.schema import Config, Target
from trt_pipeline.model.contract import Contract
from trt_pipeline.publish import select, tf_serving, triton, versions
from trt_pipeline.results import CandidateResult, Publication

TRITON_FOLDER = "triton"


def publish_all(config: Config, contract: Contract, signatures: tuple[str, ...],
                candidates: tuple[CandidateResult, ...], files: dict[str, Path], run_id: str, model_digest: str,
                again: bool) -> tuple[Publication, ...]:
    """One `Publication` a target, in the config's order.

    Args:
        files: candidate -> folder of its artifact.

    Raises:
        OutputError: the serving folder cannot be written or the disk is full.
    """
    found = []
    with versions.publishing(config.serving):
        for target in config.targets:
            choice = select.choose(target, candidates, config.objective)
            shown = f"{target.kind} {target.version}"
            if choice.candidate is None:
                found.append(Publication(target=shown, candidate=None, why=choice.why))
                continue
            candidate = next(c for c in candidates if c.name == choice.candidate)
            artifact, folder = select.form_for(target, candidate), files[candidate.name]
            assert artifact
            manifest = _manifest(candidate.name, artifact, folder) | {"why": choice.why, "original": model_digest,
                                                                      "run": run_id}
            version, new, path = _publish(config, contract, signatures, target, artifact, folder, manifest, again)
            found.append(Publication(target=shown, candidate=candidate.name, why=choice.why, version=version,
                                     path=path, new=new))
    return tuple(found)


def _publish(config: Config, contract: Contract, signatures: tuple[str, ...], target: Target,
             artifact: Artifact, folder: Path, manifest: dict[str, Any], again: bool) -> tuple[int, bool, str]:
    if target.kind == "tf-serving":
        source = folder / next(iter(artifact.files.values()))  # one SavedModel for all signatures
        version, new = tf_serving.publish(source, config.serving, config.name, manifest, config.keep, again)
        return version, new, str(config.serving / config.name / str(version))
    repository = config.serving / TRITON_FOLDER
    version, new = triton.publish(artifact, folder, {n: contract.signatures[n] for n in signatures},
                                  repository, config.name, config.max_batch_size, manifest, config.keep, again)
    first = triton.triton_name(config.name, signatures[0], list(signatures))
    return version, new, str(repository / first / str(version))


def _manifest(name: str, artifact: Artifact, folder: Path) -> dict[str, Any]:
    """Which candidate this is, in which form, and a digest of what of it is published."""
    parts = {signature: (folder / file).resolve() for signature, file in sorted(artifact.files.items())}
    content = {signature: digest.of_file(path) if artifact.kind == "tensorrt-plan"
               else digest.of_folder(path if path.is_dir() else path.parent) for signature, path in parts.items()}
    known = {"built": artifact.built} if artifact.built else {}
    return {"candidate": name, "kind": artifact.kind, **known, "digest": digest.of_value([name, content])}
