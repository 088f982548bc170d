"""Publish to a Triton model repository: ``serving/triton/NAME/{config.pbtxt, VERSION/...}``.

One Triton model serves one signature. A model with several becomes ``NAME`` for its
``serving_default`` (or only) signature and ``NAME-SIGNATURE`` for the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trt_pipeline.backends.base import Artifact
from trt_pipeline.errors import ConfigError
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.publish import versions

CONFIG = "config.pbtxt"
_DATA_TYPES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16", "int8": "INT8",
               "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16",
               "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL", "string": "STRING"}
# kind -> (Triton's platform, the name that it looks for in a version's folder)
_PLATFORMS = {"savedmodel": ("tensorflow_savedmodel", "model.savedmodel"),
              "tensorrt-savedmodel": ("tensorflow_savedmodel", "model.savedmodel"),
              "onnx": ("onnxruntime_onnx", "model.onnx")}


def publish(artifact: Artifact, folder: Path, signatures: dict[str, SignatureContract], repository: Path, name: str,
            max_batch_size: int, manifest: dict[str, Any], keep: int | None, again: bool = False) -> tuple[int, bool]:
    """Publish every signature of ``artifact`` as the next version of its Triton model.

    Args:
        folder: where the artifact's files are.
        repository: Triton's ``--model-repository``.
        max_batch_size: the largest batch that servers should form.

    Returns:
        The version of the first signature's model, and whether anything is new.

    Raises:
        OutputError: the repository cannot be written or the disk is full.
    """
    published = []
    # All configurations first: one that Triton cannot have is refused before anything is published.
    for signature, contract in signatures.items():
        config_text(triton_name(name, signature, list(signatures)), artifact.kind, contract, max_batch_size)
    for signature, contract in signatures.items():
        model_name = triton_name(name, signature, list(signatures))
        config = config_text(model_name, artifact.kind, contract, max_batch_size)
        published.append(_publish_one(artifact, folder, signature, repository, model_name, config, manifest, again))
        versions.prune(repository / model_name, keep, repository.parent)
    return published[0][0], any(new for _, new in published)


def triton_name(name: str, signature: str, signatures: list[str]) -> str:
    """The Triton model that serves ``signature``."""
    plain = "serving_default" if "serving_default" in signatures else signatures[0]
    return name if signature == plain else f"{name}-{quote(signature, safe='')}"


def config_text(name: str, kind: str, contract: SignatureContract, max_batch_size: int) -> str:
    """The config.pbtxt of one signature.

    Triton leaves the batch dimension out of ``dims`` when it batches; it can only batch where
    every input and output has a free leading dimension.
    """
    tensors = (*contract.inputs.values(), *contract.outputs.values())
    batches = all(t.batched for t in tensors)
    platform, _ = _PLATFORMS[kind]
    lines = [f"name: {_quoted(name)}", f'platform: "{platform}"', f"max_batch_size: {max_batch_size if batches else 0}"]
    for side, named in (("input", contract.inputs), ("output", contract.outputs)):
        entries = ",\n".join(_tensor_text(key, tensor, batches) for key, tensor in named.items())
        lines.append(f"{side} [\n{entries}\n]")
    if kind != "onnx":
        lines.append('parameters { key: "TF_SIGNATURE_DEF" value { string_value: ' + _quoted(contract.name) + " } }")
    if batches:
        lines.append("dynamic_batching { }")
    lines.append("version_policy { latest { num_versions: 1 } }")
    return "\n".join(lines) + "\n"


def _tensor_text(name: str, tensor: TensorContract, batches: bool) -> str:
    if tensor.shape is None or tensor.dtype not in _DATA_TYPES:
        raise ConfigError(f"Triton cannot serve '{name}', {tensor}: it needs a known rank and one of the dtypes "
                          f"{', '.join(_DATA_TYPES)}; leave the target out")
    dims = [-1 if size is None else size for size in tensor.shape[1 if batches else 0:]]
    # Triton wants at least one dimension; a scalar in each row of a batch is a 1 that is reshaped away.
    reshape = ", reshape: { shape: [ ] }" if batches and not dims else ""
    shown = ", ".join(map(str, dims or [1]))
    return f"  {{ name: {_quoted(name)}, data_type: TYPE_{_DATA_TYPES[tensor.dtype]}, dims: [ {shown} ]{reshape} }}"


def _quoted(text: str) -> str:
    """A string literal of protobuf's text format; JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=False)


def _publish_one(artifact: Artifact, folder: Path, signature: str, repository: Path, name: str, config: str,
                 manifest: dict[str, Any], again: bool) -> tuple[int, bool]:
    model = repository / name
    known = versions.existing(model)
    old_config = (model / CONFIG).read_text() if (model / CONFIG).is_file() else None
    newest = versions.latest_manifest(model) or {}
    if not again and newest.get("digest") == manifest["digest"] and old_config == config:
        return known[-1], False
    version = known[-1] + 1 if known else 1
    with versions.staging(repository.parent) as scratch:
        staged = scratch / "model"
        _write_version(artifact, folder, signature, staged / str(version), config, manifest)
        if old_config == config:
            versions.place(staged / str(version), model / str(version))
        else:
            # The configuration belongs to the version, so both must change in one step.
            (staged / CONFIG).write_text(config)
            _link_versions(model, known, staged)
            if model.exists():
                versions.exchange(staged, model)
            else:
                versions.place(staged, model)
    return version, True


def _write_version(artifact: Artifact, folder: Path, signature: str, target: Path, config: str,
                   manifest: dict[str, Any]) -> None:
    source = folder / artifact.files[signature]
    if artifact.kind == "savedmodel":
        versions.copy(source, target / _PLATFORMS["savedmodel"][1])
    else:
        versions.copy(source.parent, target)  # the model and, where it has one, its file of weights
    (target / versions.MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    # For going back to this version after another one has changed the model's configuration.
    (target / CONFIG).write_text(config)


def _link_versions(model: Path, known: list[int], staged: Path) -> None:
    for version in known:
        source = model / str(version)
        for file in source.rglob("*"):
            if file.is_file():
                target = staged / str(version) / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, target)
