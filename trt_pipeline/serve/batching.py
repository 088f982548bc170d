"""Dynamic batching: requests of one signature that wait at the same time are run as one.

No library serves here: TensorFlow's own batching operation keeps a thread for each request that waits and a
queue for each shape for good, and a batch fails as a whole; async-batcher and batched count items, not rows,
and fail as a whole too. What is put together, and the words of what is refused, are TensorFlow Serving's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from trt_pipeline.serve.batch_tensors import (
    OutputsError,
    check_outputs,
    cut,
    join,
    kind_of,
    rows_of,
    under_each_other,
)
from trt_pipeline.serve.batching_parameters import BatchingParameters
from trt_pipeline.serve.refusal import Code, RefusalError
from trt_pipeline.serve.servable import Servable, check_inputs

if TYPE_CHECKING:
    from trt_pipeline.backends.base import Array
    from trt_pipeline.model.contract import SignatureContract
    from trt_pipeline.serve.metrics import Metrics

Answer = dict[str, "Array"]


class _Request:
    """A request, or a part of a large one, until it has its answer."""

    def __init__(self, feeds: Mapping[str, Array], rows: int) -> None:
        self.feeds, self.rows = feeds, rows
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.since = time.monotonic()


class _Queue:
    """Batches that wait, of requests that may share one; to the last of them is added."""

    def __init__(self, key: Hashable, servable: Servable, signature: str, batched: bool) -> None:
        self.key, self.servable, self.signature, self.batched = key, servable, signature, batched
        self.batches: deque[_Batch] = deque()


class _Batch:
    """Requests that will run together."""

    def __init__(self, queue: _Queue) -> None:
        self.queue = queue
        self.requests: list[_Request] = []
        self.rows = 0
        self.ripe = False
        """Whether it need not wait for more."""
        self.queued = True
        self.run: asyncio.Task[None] | None = None


class Batching:
    """Runs requests in threads, several at once as one batch. For one event loop, all of it."""

    def __init__(self, parameters: BatchingParameters | None, threads: int = 0, metrics: Metrics | None = None) -> None:
        """
        Args:
            parameters: how requests are put together; None runs each alone.
            threads: how many batches run at once where ``parameters`` do not say; one for each core by default.
            metrics: is told of batches and of the time in queues.
        """
        self._parameters, self._metrics = parameters, metrics
        self._threads = (parameters and parameters.num_batch_threads) or threads or os.cpu_count() or 1
        self._pool_name = (parameters and parameters.thread_pool_name) or "batch_threads"
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix=self._pool_name)
        self._queues: OrderedDict[Hashable, _Queue] = OrderedDict()  # none is empty, so that none outlives its requests
        self._waiting: Counter[tuple[Servable, str]] = Counter()  # rows of each signature
        self._waiting_rows = 0
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        if metrics:
            metrics.watch_queue(lambda: self._waiting_rows)

    async def infer(self, servable: Servable, signature: str, feeds: Mapping[str, Array],
                    api: str = "Predict") -> Answer:
        """The outputs for ``feeds``, alone or with others.

        Cancelled while it waits, it is never run; cancelled while it runs, it returns only when the run ends, so that
        ``servable`` may be let go of. Signatures with an input whose leading axis is not free are run alone.

        Args:
            api: what the metrics call it.

        Raises:
            RefusalError: what the model finds wrong with ``feeds``, or why they cannot be batched; UNAVAILABLE where
                too many wait already, and after `close`.
        """
        if self._closed:
            raise _closing()
        begin, code = time.perf_counter(), int(Code.INTERNAL)
        try:
            answer = await self._answer(servable, signature, feeds)
            code = 0
            return answer
        except RefusalError as refused:
            code = refused.code
            raise
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        finally:
            if self._metrics:
                self._metrics.inferred(servable, signature, api, time.perf_counter() - begin, code)

    async def close(self) -> None:
        """Refuse what waits, let what runs finish."""
        self._closed = True
        for batch in [batch for queue in self._queues.values() for batch in queue.batches]:
            self._dequeue(batch)
            for request in batch.requests:
                if not request.answer.done():
                    request.answer.set_exception(_closing())
        await asyncio.gather(*self._running)
        await asyncio.to_thread(self._executor.shutdown)

    async def _answer(self, servable: Servable, signature: str, feeds: Mapping[str, Array]) -> Answer:
        contract = servable.contract.signatures.get(signature)
        if self._parameters is None or contract is None:
            return await _run_to_end(self._executor.submit(servable.infer, signature, feeds))
        # Here and not by the run alone: what is plainly wrong does not spoil a batch.
        check_inputs(contract, servable.signature_defs[signature], feeds)
        limits, rows = self._parameters, rows_of(feeds) if contract.batched else 0
        if self._metrics and contract.batched:
            self._metrics.batch_input(rows)
        if rows > limits.max_batch_size:
            raise RefusalError(Code.INVALID_ARGUMENT, f"Task size {rows} is larger than maximum input batch size "
                                                      f"{limits.max_batch_size}")
        if not rows:
            return await self._in_queue(_Queue(object(), servable, signature, batched=False), feeds, [1])
        whole, rest = divmod(rows, limits.largest_batch)
        # The parts of what is cut keep their length: their outputs would not fit under each other again.
        kind = (kind_of(feeds, False, {}) if rows > limits.largest_batch else
                kind_of(feeds, limits.pad_variable_length_inputs, _padding(servable, contract)))
        key = (servable, signature, kind)
        queue = self._queues.get(key) or _Queue(key, servable, signature, batched=True)
        return await self._in_queue(queue, feeds, [limits.largest_batch] * whole + [rest] * bool(rest))

    async def _in_queue(self, queue: _Queue, feeds: Mapping[str, Array], rows: Sequence[int]) -> Answer:
        """The answer to ``feeds``, which wait in ``queue`` in parts of so many ``rows``."""
        self._check_room(queue, sum(rows))
        parts = cut(feeds, rows) if len(rows) > 1 else [feeds]
        requests = [_Request(part, count) for part, count in zip(parts, rows, strict=True)]
        batches = [self._enqueue(queue, request) for request in requests]
        asyncio.get_running_loop().call_soon(self._start)  # not now: what comes in the same turn of the loop goes too
        try:
            answers = await asyncio.gather(*(request.answer for request in requests))
        finally:
            for request, batch in zip(requests, batches, strict=True):
                self._leave(request, batch)
            if runs := [batch.run for request, batch in zip(requests, batches, strict=True)
                        if batch.run and request.answer.cancelled() and request in batch.requests]:
                await asyncio.wait(runs)
        return answers[0] if len(answers) == 1 else under_each_other(answers)

    def _check_room(self, queue: _Queue, rows: int) -> None:
        assert self._parameters
        most, limit = self._parameters.largest_batch, self._parameters.max_enqueued_batches
        waiting = self._waiting[queue.servable, queue.signature]
        # In rows, of all queues of the signature: shapes of all kinds are no way around it.
        if waiting + rows > limit * most:
            raise RefusalError(Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full; "
                                                 f"currently {-(-waiting // most)} batches enqueued and "
                                                 f"max_enqueued_batches is {limit}")

    def _enqueue(self, queue: _Queue, request: _Request) -> _Batch:
        assert self._parameters
        most, timeout = self._parameters.largest_batch, self._parameters.batch_timeout_micros / 1e6
        self._queues[queue.key] = queue
        if not queue.batches or queue.batches[-1].rows + request.rows > most:
            if queue.batches:
                queue.batches[-1].ripe = True
            queue.batches.append(_Batch(queue))
            if queue.batched and timeout:
                asyncio.get_running_loop().call_later(timeout, self._ripen, queue.batches[-1])
            else:
                queue.batches[-1].ripe = True
        batch = queue.batches[-1]
        batch.requests.append(request)
        batch.rows += request.rows
        batch.ripe |= batch.rows >= most
        self._waiting[queue.servable, queue.signature] += request.rows
        self._waiting_rows += request.rows
        return batch

    def _ripen(self, batch: _Batch) -> None:
        batch.ripe = True
        self._start()

    def _leave(self, request: _Request, batch: _Batch) -> None:
        """Cancelled or answered, ``request`` waits no more."""
        request.answer.cancel()
        if not batch.queued:
            return
        batch.requests.remove(request)
        batch.rows -= request.rows
        self._released(batch.queue, request.rows)
        if not batch.requests:
            self._dequeue(batch)

    def _dequeue(self, batch: _Batch) -> None:
        batch.queued = False
        queue = batch.queue
        queue.batches.remove(batch)
        self._released(queue, batch.rows)
        del self._queues[queue.key]
        if queue.batches:
            self._queues[queue.key] = queue  # last in turn

    def _released(self, queue: _Queue, rows: int) -> None:
        key = queue.servable, queue.signature
        self._waiting[key] -= rows
        self._waiting_rows -= rows
        if not self._waiting[key]:
            del self._waiting[key]

    def _start(self) -> None:
        """Run what may run, queues in turn."""
        while len(self._running) < self._threads:
            batch = next((queue.batches[0] for queue in self._queues.values() if queue.batches[0].ripe), None)
            if batch is None:
                return
            self._dequeue(batch)
            batch.requests = [request for request in batch.requests if not request.answer.cancelled()]
            if not batch.requests:
                continue
            batch.run = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(batch.run)
            batch.run.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, batch: _Batch) -> None:
        outcomes = await asyncio.get_running_loop().run_in_executor(self._executor, self._outcomes, batch)
        for request, outcome in zip(batch.requests, outcomes, strict=True):
            if request.answer.done():
                continue
            if isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)

    def _outcomes(self, batch: _Batch) -> list[Answer | Exception]:
        """Of each request its answer or what is wrong; in a thread."""
        try:
            return [*self._answers(batch.queue, batch.requests)]
        except OutputsError as error:
            return [error] * len(batch.requests)
        except Exception as error:
            if len(batch.requests) == 1:
                return [error]
        return [self._alone(batch.queue, request) for request in batch.requests]  # one's fault is not the others'

    def _alone(self, queue: _Queue, request: _Request) -> Answer | Exception:
        if request.answer.cancelled():
            return {}
        try:
            return self._answers(queue, [request])[0]
        except Exception as error:
            return error

    def _answers(self, queue: _Queue, requests: Sequence[_Request]) -> list[Answer]:
        assert self._parameters
        if not queue.batched:
            return [queue.servable.infer(queue.signature, requests[0].feeds)]
        rows = [request.rows for request in requests]
        filled = self._parameters.filled(sum(rows))
        if self._metrics:
            now = time.monotonic()
            self._metrics.batch_run(sum(rows), filled, [now - request.since for request in requests], self._pool_name)
        outputs = queue.servable.infer(queue.signature, join([request.feeds for request in requests], filled,
                                                                   queue.servable.padding))
        check_outputs(outputs, filled)
        return cut(outputs, rows)


async def _run_to_end(run: Future[Answer]) -> Answer:
    answer = asyncio.wrap_future(run)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if not run.cancel():
            await asyncio.wait([answer])
        raise


def _padding(servable: Servable, contract: SignatureContract) -> dict[str, int]:
    """What fills the second axis of the inputs whose signature leaves that free; others' lengths may be wrong."""
    def free(shape: tuple[int | None, ...] | None) -> bool:
        return shape is None or (len(shape) > 1 and shape[1] is None)

    return {name: value for name, value in servable.padding.items()
            if name in contract.inputs and free(contract.inputs[name].shape)}


def _closing() -> RefusalError:
    return RefusalError(Code.UNAVAILABLE, "the server is shutting down")
