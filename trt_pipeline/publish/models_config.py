"""`serving/models.config`: the models that TensorFlow Serving loads, as its ModelServerConfig in text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from trt_pipeline.publish.layout import FOLDER_IN_SERVER
from trt_pipeline.publish.version_policy import VersionPolicy


def text(policies: Mapping[str, VersionPolicy]) -> str:
    """The configuration of the models by name."""
    entries = "".join(_entry(name, policy) for name, policy in policies.items())
    return f"# Written by every publication: what is changed here is lost.\nmodel_config_list {{\n{entries}}}\n"


def _entry(name: str, policy: VersionPolicy) -> str:
    lines = [f"name: {json.dumps(name)}", f"base_path: {json.dumps(f'{FOLDER_IN_SERVER}/{name}')}",
             'model_platform: "tensorflow"', f"model_version_policy {{ {_policy(policy)} }}"]
    for label, version in policy.labels.items():
        if label in policy.held:
            lines.append(f"# {label} becomes {policy.held[label]} with the next publication, once that is loaded.")
        lines.append(f"version_labels {{ key: {json.dumps(label)} value: {version} }}")
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _policy(policy: VersionPolicy) -> str:
    if policy.kind == "all":
        return "all { }"
    if policy.kind == "latest":
        return f"latest {{ num_versions: {policy.number} }}"
    return "specific { " + " ".join(f"versions: {version}" for version in policy.specific) + " }"
