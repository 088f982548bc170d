"""Triton's HTTP endpoints: tritonclient for the tensors' binary form, httpx for the requests.

tritonclient's own HTTP clients have no time limit for a single request, and the one that is not asyncio's must not
be shared by threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import tritonclient.http

from trt_pipeline.client import failures
from trt_pipeline.client.protocol import Bounds, Library, Spec, Steps
from trt_pipeline.client.triton import Document, Triton
from trt_pipeline.errors import RequestError

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)
_HEADER_LENGTH = "Inference-Header-Content-Length"


class TritonHttp(Triton):
    """The KServe API below ``/v2``, with tensors as bytes."""

    def open(self) -> Library:
        client = httpx.Client(base_url=self.target, limits=LIMITS)
        return Library(client, client.close)

    def open_async(self) -> Library:
        client = httpx.AsyncClient(base_url=self.target, limits=LIMITS)
        return Library(client, client.aclose)

    def error(self, error: Exception) -> RequestError | None:
        return failures.of_httpx(self, error)

    def ready_impl(self, timeout: Bounds) -> Steps[bool]:
        response = yield self._request("GET", "/v2/health/ready", timeout)
        ready: bool = response.is_success
        return ready

    def new_input(self, name: str, shape: tuple[int, ...], datatype: str) -> Any:
        return tritonclient.http.InferInput(name, list(shape), datatype)

    def infer(self, spec: Spec, inputs: list[Any], outputs: Sequence[str] | None,
              timeout: Bounds) -> Steps[tuple[Any, list[str]]]:
        wanted = [tritonclient.http.InferRequestedOutput(name) for name in outputs] if outputs else None
        body, length = tritonclient.http.InferenceServerClient.generate_request_body(inputs, wanted)
        headers = {"Content-Type": "application/octet-stream"} | ({_HEADER_LENGTH: str(length)} if length else {})
        answer = failures.checked(self, (yield self._request("POST", f"{_path(spec)}/infer", timeout, content=body,
                                                             headers=headers)))
        header = answer.headers.get(_HEADER_LENGTH)
        result = tritonclient.http.InferenceServerClient.parse_response_body(
            answer.content, header_length=int(header) if header else None)
        return result, [one["name"] for one in result.get_response().get("outputs", ())]

    def datatype(self, result: Any, output: str) -> str:
        return str(result.get_output(output)["datatype"])

    def server_metadata(self, timeout: Bounds) -> Steps[Document]:
        return failures.document(self, (yield self._request("GET", "/v2", timeout)))  # type: ignore[no-any-return]

    def model_metadata(self, spec: Spec, timeout: Bounds) -> Steps[Document]:
        return failures.document(self, (yield self._request("GET", _path(spec), timeout)))  # type: ignore[no-any-return]

    def model_config(self, spec: Spec, timeout: Bounds) -> Steps[Document]:
        response = yield self._request("GET", f"{_path(spec)}/config", timeout)
        return failures.document(self, response)  # type: ignore[no-any-return]

    def repository_index(self, timeout: Bounds) -> Steps[list[Document]]:
        response = yield self._request("POST", "/v2/repository/index", timeout)
        return failures.document(self, response)  # type: ignore[no-any-return]

    def _request(self, method: str, path: str, timeout: Bounds, **given: Any) -> Any:
        return lambda client: client.request(method, path, timeout=httpx.Timeout(timeout or self.timeout, pool=None),
                                             **given)


def _path(spec: Spec) -> str:
    path = f"/v2/models/{quote(spec.name, safe='')}"
    return path if spec.version is None else f"{path}/versions/{spec.version}"
