"""Triton's gRPC service, through tritonclient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from trt_pipeline.client import failures
from trt_pipeline.client.protocol import Bounds, Library, Spec, Steps
from trt_pipeline.client.triton import Document, Triton, version_text
from trt_pipeline.errors import RequestError


class TritonGrpc(Triton):
    """GRPCInferenceService."""

    def open(self) -> Library:
        client = tritonclient.grpc.InferenceServerClient(self.target)
        return Library(client, client.close)

    def open_async(self) -> Library:
        client = tritonclient.grpc.aio.InferenceServerClient(self.target)
        return Library(client, client.close)

    def error(self, error: Exception) -> RequestError | None:
        if not isinstance(error, InferenceServerException):
            return None
        code = str(error.status() or "UNKNOWN").removeprefix("StatusCode.")
        return failures.of_grpc(self, code, error.message() or "", error.debug_details())

    def ready_impl(self, timeout: Bounds) -> Steps[bool]:
        ready: bool = yield lambda client: client.is_server_ready(client_timeout=timeout or self.timeout)
        return ready

    def new_input(self, name: str, shape: tuple[int, ...], datatype: str) -> Any:
        return tritonclient.grpc.InferInput(name, list(shape), datatype)

    def infer(self, spec: Spec, inputs: list[Any], outputs: Sequence[str] | None,
              timeout: Bounds) -> Steps[tuple[Any, list[str]]]:
        wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs] if outputs else None
        result = yield lambda client: client.infer(spec.name, inputs, version_text(spec), wanted,
                                                   client_timeout=timeout or self.timeout)
        return result, [one.name for one in result.get_response().outputs]

    def datatype(self, result: Any, output: str) -> str:
        return str(result.get_output(output).datatype)

    def server_metadata(self, timeout: Bounds) -> Steps[Document]:
        found: Document = yield lambda client: client.get_server_metadata(
            as_json=True, client_timeout=timeout or self.timeout)
        return found

    def model_metadata(self, spec: Spec, timeout: Bounds) -> Steps[Document]:
        found: Document = yield lambda client: client.get_model_metadata(
            spec.name, version_text(spec), as_json=True, client_timeout=timeout or self.timeout)
        return found

    def model_config(self, spec: Spec, timeout: Bounds) -> Steps[Document]:
        found = yield lambda client: client.get_model_config(
            spec.name, version_text(spec), as_json=True, client_timeout=timeout or self.timeout)
        config: Document = found.get("config", {})
        return config

    def repository_index(self, timeout: Bounds) -> Steps[list[Document]]:
        found = yield lambda client: client.get_model_repository_index(
            as_json=True, client_timeout=timeout or self.timeout)
        models: list[Document] = found.get("models", [])
        return models
