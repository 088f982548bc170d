"""A served model as a runner: `infer` asks the server."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from trt_pipeline.backends.base import Array, Runner
from trt_pipeline.client.address import connect
from trt_pipeline.client.server import Server
from trt_pipeline.errors import InputError, UnreachableError
from trt_pipeline.model.contract import Contract, TensorContract
from trt_pipeline.served.endpoint import Endpoint


class ServedRunner(Runner):
    """Answers from a running server.

    Args:
        contract: the original's.
        address: as `client.connect` takes it.
        endpoints: signature -> what answers for it (`endpoint.find`).
        timeout: seconds that a request may take.
    """

    def __init__(self, contract: Contract, address: str, endpoints: Mapping[str, Endpoint], timeout: float) -> None:
        super().__init__(contract)
        self.address, self.endpoints, self.timeout = address, endpoints, timeout
        self.seconds: dict[str, list[float]] = {}
        """Signature -> how long each request took, from arrays to arrays."""
        self.lost: UnreachableError | None = None
        """Set once the server answers no longer, which is no fault of the model."""
        self._server: Server | None = None

    def activate_impl(self) -> None:
        self._server = connect(self.address, timeout=self.timeout)

    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self._server
        there, known = self.endpoints[signature], self.contract.signatures[signature]
        fed = {name: as_served(name, value, there.contract.inputs[name]) for name, value in feeds.items()}
        started = time.perf_counter()
        try:
            got = self._server.predict(there.model, fed, signature=there.signature, version=there.version)
        except UnreachableError as error:
            self.lost = error
            raise
        self.seconds.setdefault(signature, []).append(time.perf_counter() - started)
        return {name: as_original(value, known.outputs[name]) if name in known.outputs else value
                for name, value in got.items()}

    def deactivate_impl(self) -> None:
        if self._server:
            self._server.close()
        self._server = None


def as_served(name: str, value: Array, tensor: TensorContract) -> Array:
    """``value`` as the server takes it: Triton wants an axis of 1 where there is none but the batch's, and an engine
    may have int32 for int64.

    Raises:
        InputError: a number does not fit into 32 bits.
    """
    if (value.dtype.name, tensor.dtype) == ("int64", "int32"):
        narrow = value.astype(np.int32)
        if not np.array_equal(narrow, value):
            raise InputError(f"input '{name}' has numbers that do not fit into the int32 which is served")
        value = narrow
    if tensor.shape is not None and len(tensor.shape) == value.ndim + 1 and tensor.shape[-1] == 1:
        return value.reshape([*value.shape, 1])
    return value


def as_original(value: Array, tensor: TensorContract) -> Array:
    """``value`` as the original gives it: `as_served`, undone."""
    if tensor.shape is not None and value.ndim == len(tensor.shape) + 1 and value.shape[-1] == 1:
        value = value.reshape(value.shape[:-1])
    return value.astype(np.int64) if (value.dtype.name, tensor.dtype) == ("int32", "int64") else value
