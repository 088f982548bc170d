"""`serving/compose.yaml`: containers of the servers that load what is published."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from trt_pipeline.publish.deployment import Server
from trt_pipeline.publish.layout import FOLDER_IN_SERVER, MODELS, MONITORING, SESSION, TRITON_FOLDER
from trt_pipeline.publish.memory import HOST_MARGIN, explained

_HEADER = """\
# Written by every publication: what is changed here is lost. Put changes into compose.override.yaml beside it, which
# docker compose reads too. Start in this folder with: docker compose up
"""
MODEL_CONFIG_POLL_S = 10
# Of one GPU, the fraction that may be in use for Triton to load one more model.
_TRITON_GPU_LIMIT = "0:0.9"
# The image has neither curl nor wget, but bash.
_STATUS = ("exec 3<>/dev/tcp/127.0.0.1/8501 && printf '%s\\r\\n\\r\\n' {request} >&3 && "
           "grep -q '\"AVAILABLE\"' <&3")


def text(servers: Sequence[Server], session_config: bool) -> str:
    """The Compose file; ``session_config`` says whether there is a file of that for TensorFlow Serving."""
    services = {"tensorflow-serving" if one.kind == "tf-serving" else "triton":
                _tensorflow_serving(one, session_config) if one.kind == "tf-serving" else _triton(one)
                for one in servers}
    notes = "".join(f"# {name}: {note}\n" for name, one in zip(services, servers, strict=True) for note in _notes(one))
    return _HEADER + notes + yaml.safe_dump({"services": services}, sort_keys=False, width=120)


def _notes(server: Server) -> list[str]:
    memory = [f"{server.host_limit_mb} MB of memory: {HOST_MARGIN} times the measured peaks, summed over models and "
              "loaded versions"] if server.host_limit_mb else []
    gpu = [f"{server.gpu_limit.limit_mb} MB of the GPU's memory: {explained(server.gpu_limit)}"
           ] if server.gpu_limit else []
    return [*memory, *gpu, *server.notes]


def _tensorflow_serving(server: Server, session_config: bool) -> dict[str, Any]:
    command = [f"--model_config_file={FOLDER_IN_SERVER}/{MODELS}",
               f"--model_config_file_poll_wait_seconds={MODEL_CONFIG_POLL_S}",
               "--allow_version_labels_for_unavailable_models=true",
               f"--monitoring_config_file={FOLDER_IN_SERVER}/{MONITORING}", *server.batching]
    if session_config:
        command.append(f"--tensorflow_session_config_file={FOLDER_IN_SERVER}/{SESSION}")
    environment = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if server.gpu and not session_config else {}
    requests = [shlex.quote(f"GET /v1/models/{name} HTTP/1.0") for name in server.models]
    # Compose replaces what follows a single '$'.
    check = " && ".join(f"({_STATUS.format(request=request)})" for request in requests).replace("$", "$$")
    return _service(server, command, environment, [8500, 8501], {"source": ".", "target": FOLDER_IN_SERVER},
                    ["CMD", "bash", "-c", check])


def _triton(server: Server) -> dict[str, Any]:
    repository = f"{FOLDER_IN_SERVER}/{TRITON_FOLDER}"
    command = ["tritonserver", f"--model-repository={repository}", "--model-control-mode=poll",
               "--repository-poll-secs=10"]
    environment = {}
    if server.gpu:
        command.append(f"--model-load-gpu-limit={_TRITON_GPU_LIMIT}")
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    mount = {"source": f"./{TRITON_FOLDER}", "target": repository}
    return _service(server, command, environment, [8000, 8001, 8002], mount,
                    ["CMD", "curl", "-fsS", "http://127.0.0.1:8000/v2/health/ready"])


def _service(server: Server, command: list[str], environment: dict[str, str], ports: list[int], mount: dict[str, str],
             check: list[str]) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    if server.host_limit_mb:
        resources["limits"] = {"memory": f"{server.host_limit_mb}M"}
    if server.gpu:
        resources["reservations"] = {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}
    return {
        "image": server.image, "command": command, **({"environment": environment} if environment else {}),
        "ports": [f"{port}:{port}" for port in ports],
        "volumes": [{"type": "bind", **mount, "read_only": True}],
        # Warm-up and the building of engines count to the start.
        "healthcheck": {"test": check, "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "10m"},
        **({"deploy": {"resources": resources}} if resources else {}),
        "restart": "unless-stopped",
    }
