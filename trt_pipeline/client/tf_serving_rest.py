"""TensorFlow Serving's REST API, through httpx; tensors in its column format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from trt_pipeline.client import arrays, failures, tf_serving
from trt_pipeline.client.answers import Label, Metadata, VersionStatus
from trt_pipeline.client.arrays import Array
from trt_pipeline.client.protocol import Bounds, Example, Library, Protocol, Spec, Steps
from trt_pipeline.errors import RequestError
from trt_pipeline.model.contract import SignatureContract

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)


class TFServingRest(Protocol):
    """The API below ``/v1/models``."""

    tells_dtypes = False

    def open(self) -> Library:
        client = httpx.Client(base_url=self.target, timeout=self.timeout, limits=LIMITS)
        return Library(client, client.close)

    def open_async(self) -> Library:
        client = httpx.AsyncClient(base_url=self.target, timeout=self.timeout, limits=LIMITS)
        return Library(client, client.aclose)

    def error(self, error: Exception) -> RequestError | None:
        return failures.of_httpx(self, error)

    def predict_impl(self, spec: Spec, feeds: dict[str, Array], signature: str | None,
                     contract: SignatureContract | None, outputs: Sequence[str] | None,
                     timeout: Bounds) -> Steps[dict[str, Array]]:
        assert contract
        asked = {"inputs": {name: arrays.to_json(array) for name, array in feeds.items()}}
        values = yield from self._post(spec, "predict", asked, signature, timeout, "outputs")
        if len(contract.outputs) == 1:
            values = dict.fromkeys(contract.outputs, values)
        return {name: arrays.of_json(value, contract.outputs[name]) for name, value in values.items()}

    def metadata_impl(self, spec: Spec, timeout: Bounds) -> Steps[Metadata]:
        response = yield lambda client: client.get(f"{_path(spec)}/metadata", **self._within(timeout))
        signatures = failures.document(self, response, "metadata", "signature_def", "signature_def")
        return tf_serving.metadata(spec.name, response.json(), signatures)

    def status(self, spec: Spec, timeout: Bounds) -> Steps[list[VersionStatus]]:
        response = yield lambda client: client.get(_path(spec), **self._within(timeout))
        return tf_serving.statuses(failures.document(self, response))

    def ready_impl(self, timeout: Bounds) -> Steps[bool]:
        # TensorFlow Serving has no request that is about no model; any answer to this one says that it is there.
        yield lambda client: client.get("/v1/models", **self._within(timeout))
        return True

    def classify(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                 timeout: Bounds) -> Steps[list[list[Label]]]:
        results = yield from self._of_examples(spec, "classify", examples, signature, timeout)
        return [[Label(label, _float32(score)) for label, score in found] for found in results]

    def regress(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                timeout: Bounds) -> Steps[list[float]]:
        results = yield from self._of_examples(spec, "regress", examples, signature, timeout)
        return [_float32(found) for found in results]

    def describe(self, timeout: Bounds) -> Steps[str]:
        response = yield lambda client: client.get("/v1/models", **self._within(timeout))
        server = response.headers.get("server")
        return f"TensorFlow Serving's REST API{f', by {server}' if server else ', which tells no version'}"

    def _of_examples(self, spec: Spec, verb: str, examples: Sequence[Example], signature: str | None,
                     timeout: Bounds) -> Steps[Any]:
        asked = {"examples": [{name: [arrays.to_json(np.array(value, object)) if isinstance(value, bytes) else value
                                      for value in values] for name, values in tf_serving.features(example).items()}
                              for example in examples]}
        return (yield from self._post(spec, verb, asked, signature, timeout, "results"))

    def _post(self, spec: Spec, verb: str, asked: dict[str, Any], signature: str | None,
              timeout: Bounds, answer: str) -> Steps[Any]:
        body = json.dumps(asked | ({"signature_name": signature} if signature else {})).encode()
        response = yield lambda client: client.post(f"{_path(spec)}:{verb}", content=body, headers={
            "Content-Type": "application/json"}, **self._within(timeout))
        return failures.document(self, response, answer)

    def _within(self, timeout: Bounds) -> dict[str, Any]:
        return {"timeout": httpx.Timeout(timeout or self.timeout, pool=None)}


def _path(spec: Spec) -> str:
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return f"{path}/labels/{quote(spec.label, safe='')}" if spec.label is not None else path


def _float32(value: Any) -> float:
    """What gRPC would have brought: JSON has the shortest digits that tell a float32 apart."""
    return float(np.float32(value))
