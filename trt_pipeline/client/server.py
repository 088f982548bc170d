"""A server to ask, by calls that return or by calls that are awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from trt_pipeline.client.answers import Label, Metadata, VersionStatus
from trt_pipeline.client.arrays import Array
from trt_pipeline.client.protocol import Call, Example, Library, Protocol, Spec, Steps
from trt_pipeline.errors import InputError

T = TypeVar("T")


class Server:
    """A server to ask; a context manager. Threads may share it.

    Every method raises `RequestError` where the server refuses, with its code and message, and its kind
    `UnreachableError` where none answers; ``timeout`` is in seconds, that of `connect` by default.
    """

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._library = protocol.open()

    @property
    def address(self) -> str:
        """As it was given to `connect`."""
        return self._protocol.address

    def predict(self, model: str, inputs: Mapping[str, Any], *, signature: str | None = None,
                version: int | None = None, label: str | None = None, outputs: Sequence[str] | None = None,
                timeout: float | None = None) -> dict[str, Array]:
        """Outputs by name, each with the batch on its leading axis; strings as bytes objects.

        Args:
            inputs: name -> array, sent as it is, or nested lists, which get the dtype that the signature asks for.
            signature: ``serving_default`` without. On Triton, `publish.triton` made a model of each.
            version, label: one of them, or the newest version. Triton has no labels.
            outputs: only these.

        Raises:
            InputError: lists that do not fit the signature, or ``version`` and ``label`` at once.
        """
        return self._run(self._protocol.predict(_spec(model, version, label), inputs, signature, outputs, timeout))

    def classify(self, model: str, examples: Sequence[Example], *, signature: str | None = None,
                 version: int | None = None, label: str | None = None,
                 timeout: float | None = None) -> list[list[Label]]:
        """The classes of each example with their scores. TensorFlow Serving only.

        Args:
            examples: a mapping each: feature -> number, text, bytes, or a list of one kind of them.
        """
        return self._run(self._protocol.classify(_spec(model, version, label), examples, signature, timeout))

    def regress(self, model: str, examples: Sequence[Example], *, signature: str | None = None,
                version: int | None = None, label: str | None = None, timeout: float | None = None) -> list[float]:
        """The value of each example, given as to `classify`. TensorFlow Serving only."""
        return self._run(self._protocol.regress(_spec(model, version, label), examples, signature, timeout))

    def metadata(self, model: str, *, signature: str | None = None, version: int | None = None,
                 label: str | None = None, timeout: float | None = None) -> Metadata:
        """Signatures with their inputs and outputs, dtypes and shapes.

        Args:
            signature: needed only on Triton, for another than a model's default one.
        """
        return self._run(_metadata(self._protocol, _spec(model, version, label), signature, timeout))

    def status(self, model: str, *, version: int | None = None, timeout: float | None = None) -> list[VersionStatus]:
        """Every version that the server knows of, newest first."""
        return self._run(self._protocol.status(Spec(model, version), timeout))

    def ready(self, model: str | None = None, *, timeout: float | None = None) -> bool:
        """Whether the server answers; with ``model``, whether a version of that is available."""
        return self._run(self._protocol.ready(model, timeout))

    def describe(self, *, timeout: float | None = None) -> str:
        """What serves, and in which version, as far as it says."""
        return self._run(self._protocol.describe(timeout))

    def close(self) -> None:
        """Close the connections."""
        self._library.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                try:
                    answer = call(self._library.client)
                except Exception as error:
                    failure = error
                else:
                    call = steps.send(answer)
                    continue
                call = _raise_in(steps, self._protocol, failure)
        except StopIteration as finished:
            result: T = finished.value
            return result


class AsyncServer:
    """A server to ask from asyncio; for ``async with``. See `Server`, whose methods it has."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._library: Library | None = None

    @property
    def address(self) -> str:
        """As it was given to `connect_async`."""
        return self._protocol.address

    async def predict(self, model: str, inputs: Mapping[str, Any], *, signature: str | None = None,
                      version: int | None = None, label: str | None = None, outputs: Sequence[str] | None = None,
                      timeout: float | None = None) -> dict[str, Array]:
        """See `Server.predict`."""
        spec = _spec(model, version, label)
        return await self._run(self._protocol.predict(spec, inputs, signature, outputs, timeout))

    async def classify(self, model: str, examples: Sequence[Example], *, signature: str | None = None,
                       version: int | None = None, label: str | None = None,
                       timeout: float | None = None) -> list[list[Label]]:
        """See `Server.classify`."""
        return await self._run(self._protocol.classify(_spec(model, version, label), examples, signature, timeout))

    async def regress(self, model: str, examples: Sequence[Example], *, signature: str | None = None,
                      version: int | None = None, label: str | None = None,
                      timeout: float | None = None) -> list[float]:
        """See `Server.regress`."""
        return await self._run(self._protocol.regress(_spec(model, version, label), examples, signature, timeout))

    async def metadata(self, model: str, *, signature: str | None = None, version: int | None = None,
                       label: str | None = None, timeout: float | None = None) -> Metadata:
        """See `Server.metadata`."""
        return await self._run(_metadata(self._protocol, _spec(model, version, label), signature, timeout))

    async def status(self, model: str, *, version: int | None = None,
                     timeout: float | None = None) -> list[VersionStatus]:
        """See `Server.status`."""
        return await self._run(self._protocol.status(Spec(model, version), timeout))

    async def ready(self, model: str | None = None, *, timeout: float | None = None) -> bool:
        """See `Server.ready`."""
        return await self._run(self._protocol.ready(model, timeout))

    async def describe(self, *, timeout: float | None = None) -> str:
        """See `Server.describe`."""
        return await self._run(self._protocol.describe(timeout))

    async def close(self) -> None:
        """Close the connections."""
        library, self._library = self._library, None
        if library:
            await library.close()

    async def __aenter__(self) -> AsyncServer:
        self._library = self._protocol.open_async()  # only now: the libraries want the running event loop
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        if self._library is None:
            raise RuntimeError("the server is not connected to: use it in an 'async with' statement")
        try:
            call = next(steps)
            while True:
                try:
                    answer = await call(self._library.client)
                except Exception as error:
                    failure = error
                else:
                    call = steps.send(answer)
                    continue
                call = _raise_in(steps, self._protocol, failure)
        except StopIteration as finished:
            result: T = finished.value
            return result


def _spec(model: str, version: int | None, label: str | None) -> Spec:
    if version is not None and label is not None:
        raise InputError(f"model {model}: version {version} and label '{label}' at once: name one of them")
    return Spec(model, version, label)


def _raise_in(steps: Steps[T], protocol: Protocol, failure: Exception) -> Call:
    """Raise in ``steps`` what ``failure`` means to the caller; the next call, if they go on all the same."""
    return steps.throw(protocol.error(failure) or failure)


def _metadata(protocol: Protocol, spec: Spec, signature: str | None, timeout: float | None) -> Steps[Metadata]:
    resolved, called = yield from protocol.resolve(spec, signature, timeout)
    found = yield from protocol.metadata(resolved, timeout)
    if signature is None or called is None or signature == called:
        return found
    contract = found.signature(called).model_copy(update={"name": signature})
    return found.model_copy(update={"signatures": {signature: contract}})
