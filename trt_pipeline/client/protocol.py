"""The contract of the four protocols.

A protocol says *what* is sent and what an answer means, once for both kinds of callers: each method is a
generator that yields calls of the library's client and is sent their results, and returns what its name says.
`server.Server` makes the calls, `server.AsyncServer` awaits them. A call that fails is raised in the generator
as the `RequestError` that it stands for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

from trt_pipeline.client import arrays
from trt_pipeline.client.answers import Label, Metadata, VersionStatus
from trt_pipeline.client.arrays import Array
from trt_pipeline.errors import RequestError
from trt_pipeline.model.contract import SignatureContract

T = TypeVar("T")
Call = Callable[[Any], Any]
"""Takes the library's client and returns its answer, or an awaitable of it from its asyncio client."""
Steps = Generator[Call, Any, T]
Example = Mapping[str, Any]
"""Feature -> number, text, bytes, or a list of one kind of them."""
Bounds = float | None


class Spec(NamedTuple):
    """What a request names: the newest version without ``version`` and ``label``."""

    name: str
    version: int | None = None
    label: str | None = None


class Library(NamedTuple):
    """An open client of a protocol's library, and what closes it; of asyncio, that is awaited."""

    client: Any
    close: Callable[[], Any]


class Protocol(ABC):
    """One server, spoken to in one protocol.

    Args:
        address: as the user gave it.
        target: as the library wants it.
        timeout: seconds that a request may take, unless it says otherwise.
    """

    tells_dtypes: ClassVar[bool] = True
    """Whether answers tell the dtypes of tensors; what JSON holds is only known with the signature."""

    def __init__(self, address: str, target: str, timeout: float) -> None:
        self.address, self.target, self.timeout = address, target, timeout
        self._known: dict[Spec, Metadata] = {}

    def predict(self, spec: Spec, inputs: Mapping[str, Any], signature: str | None, outputs: Sequence[str] | None,
                timeout: Bounds) -> Steps[dict[str, Array]]:
        """Outputs by name. What of ``inputs`` is no array becomes one of the signature's dtype."""
        spec, signature = yield from self.resolve(spec, signature, timeout)
        contract = None
        if not self.tells_dtypes or not all(arrays.is_array(value) for value in inputs.values()):
            contract = (yield from self._metadata(spec, timeout)).signature(signature)
            unknown = [name for name in inputs if name not in contract.inputs]
            if unknown:
                raise self.refused(f"model {spec.name} has no input '{unknown[0]}': it takes "
                                   f"{', '.join(contract.inputs)}", "INVALID_ARGUMENT")
        tensors = contract.inputs if contract else {}
        feeds = {name: arrays.feed(name, value, tensors.get(name)) for name, value in inputs.items()}
        try:
            answer = yield from self.predict_impl(spec, feeds, signature, contract, outputs, timeout)
        except RequestError:
            self._known.pop(spec, None)  # perhaps another version is served by now
            raise
        absent = [name for name in outputs or () if name not in answer]
        if absent:
            raise self.refused(f"model {spec.name} has no output '{absent[0]}': it has {', '.join(answer)}",
                               "INVALID_ARGUMENT")
        return {name: answer[name] for name in outputs or sorted(answer)}

    def metadata(self, spec: Spec, timeout: Bounds) -> Steps[Metadata]:
        """What the model takes and gives, asked anew."""
        self._known[spec] = found = yield from self.metadata_impl(spec, timeout)
        return found

    def _metadata(self, spec: Spec, timeout: Bounds) -> Steps[Metadata]:
        if spec in self._known:
            return self._known[spec]
        return (yield from self.metadata(spec, timeout))

    def ready(self, model: str | None, timeout: Bounds) -> Steps[bool]:
        """Whether the server answers and, of a model, whether some version of it is available."""
        try:
            if model is None:
                return (yield from self.ready_impl(timeout))
            states = yield from self.status(Spec(model), timeout)
        except RequestError:
            return False
        return any(one.state == "AVAILABLE" for one in states)

    def resolve(self, spec: Spec, signature: str | None, timeout: Bounds) -> Steps[tuple[Spec, str | None]]:
        """What the server calls ``signature`` of the model."""
        return spec, signature
        yield

    def refused(self, message: str, code: str) -> RequestError:
        """The error of a request that the server refused."""
        return RequestError(message, code, self.address)

    @abstractmethod
    def open(self) -> Library: ...

    @abstractmethod
    def open_async(self) -> Library: ...

    @abstractmethod
    def error(self, error: Exception) -> RequestError | None:
        """What an error of the library means; None where it is not about the request."""

    @abstractmethod
    def predict_impl(self, spec: Spec, feeds: dict[str, Array], signature: str | None,
                     contract: SignatureContract | None, outputs: Sequence[str] | None,
                     timeout: Bounds) -> Steps[dict[str, Array]]: ...

    @abstractmethod
    def metadata_impl(self, spec: Spec, timeout: Bounds) -> Steps[Metadata]: ...

    @abstractmethod
    def status(self, spec: Spec, timeout: Bounds) -> Steps[list[VersionStatus]]:
        """Every version that the server knows of, newest first."""

    @abstractmethod
    def ready_impl(self, timeout: Bounds) -> Steps[bool]: ...

    @abstractmethod
    def classify(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                 timeout: Bounds) -> Steps[list[list[Label]]]: ...

    @abstractmethod
    def regress(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                timeout: Bounds) -> Steps[list[float]]: ...

    @abstractmethod
    def describe(self, timeout: Bounds) -> Steps[str]:
        """What serves, and in which version, as far as it says."""
