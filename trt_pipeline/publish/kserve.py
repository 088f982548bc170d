"""`serving/kserve.yaml`: InferenceServices of KServe, one a model for TensorFlow Serving and one for Triton."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from trt_pipeline.publish import servers
from trt_pipeline.publish.deployment import Server
from trt_pipeline.publish.layout import TRITON_FOLDER
from trt_pipeline.publish.served import Model

_HEADER = """\
# Written by every publication: what is changed here is lost. Copy the folder serving/ to where storageUri points (the
# config's key 'storage'), then: kubectl apply -f kserve.yaml
# KServe serves the newest version of each model; versions and labels of models.config are not its business.
"""
# The longest that is left of a Kubernetes name once KServe has put its own words behind it.
_LONGEST_NAME = 40


def text(services: Sequence[tuple[Server, Sequence[Model]]]) -> str:
    """The manifests of ``services``, each server with the models that it holds: one for TensorFlow Serving."""
    names: set[str] = set()
    documents = [_inference_service(server, models, names) for server, models in services]
    notes = dict.fromkeys(f"# {'/'.join(server.models)}: {note}\n" for server, _ in services for note in server.notes)
    return _HEADER + "".join(notes) + yaml.safe_dump_all(documents, sort_keys=False, width=120)


def _inference_service(server: Server, models: Sequence[Model], names: set[str]) -> dict[str, Any]:
    storage = models[0].record.storage.rstrip("/")
    if server.kind == "triton":
        wanted, model = TRITON_FOLDER, {"modelFormat": {"name": "triton", "version": "2"}, "protocolVersion": "v2",
                                        "runtime": "kserve-tritonserver"}
    else:
        wanted = server.models[0]
        model = {"modelFormat": {"name": "tensorflow", "version": "2"}, "protocolVersion": "v1",
                 "runtime": "kserve-tensorflow-serving"}
    model |= {"runtimeVersion": servers.release(server.kind, server.version), "storageUri": f"{storage}/{wanted}"}
    name = _name(wanted, names)
    if server.kind == "tf-serving" and name != wanted:
        # By default the model is called as the service is; of two flags, the later one counts.
        model["args"] = [f"--model_name={wanted}"]
    if resources := _resources(server):
        model["resources"] = resources
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name},
            "spec": {"predictor": {"model": model}}}


def _resources(server: Server) -> dict[str, Any]:
    found = {"memory": f"{server.host_limit_mb}Mi"} if server.host_limit_mb else {}
    gpu = {"nvidia.com/gpu": "1"} if server.gpu else {}
    both = found | gpu
    return {"requests": dict(both), "limits": dict(both)} if both else {}


def _name(wanted: str, taken: set[str]) -> str:
    """A DNS label for ``wanted`` that is not among ``taken``, which gets it."""
    plain = re.sub("[^a-z0-9-]+", "-", wanted.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "model"
    plain = plain if plain[0].isalpha() else f"m-{plain}"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name
