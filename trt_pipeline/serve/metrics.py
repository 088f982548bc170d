"""What the server counts, in Prometheus' text format: TensorFlow Serving's names and more of its own.

As TensorFlow Serving 2.14 has them, times in microseconds:

    :tensorflow:serving:request_count{model_name,status}
    :tensorflow:serving:request_latency{model_name,API,entrypoint}    of requests that succeed
    :tensorflow:serving:runtime_latency{model_name,API,runtime}       the same, less what is not the model
    :tensorflow:serving:batching_session:{input_batch_size,processed_batch_size,padding_size,queuing_latency}
    :tensorflow:serving:batching_session:wrapped_run_count

And of this server alone:

    trt_pipeline_inference_count{model_name,version,signature,API,status}
    trt_pipeline_queued_rows                                          what waits to be batched
    trt_pipeline_version_state{model_name,version,state}              1 for the state it is in

A model that is not served is counted as ``unknown``, and versions that are no longer known are forgotten, so
no client can make series without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from trt_pipeline.serve.refusal import Code, RefusalError

if TYPE_CHECKING:
    from trt_pipeline.serve.servable import Servable
    from trt_pipeline.serve.store import VersionState

_LATENCY = tuple(10 * 1.8**n for n in range(33))  # to 20 minutes
_QUEUING = tuple(100 * 1.2**n for n in range(52))  # to a second
_ROWS = tuple(2**n for n in range(14))
_UNKNOWN = "unknown"
# Counters that do not end in _total, as Prometheus' own library would have it.
_COUNTS = re.compile(rb"(?m)^((?:# \w+ )?(?::tensorflow:serving:[\w:]+|trt_pipeline_inference)_count)_total\b")


class Models(Protocol):
    """What there is to count; a `ModelStore` is one."""

    def names(self) -> list[str]: ...

    def states(self, name: str, version: int | None = None) -> list[VersionState]: ...


class Metrics:
    """The figures of one server; any thread may add to them."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._registry = CollectorRegistry()
        serving = ":tensorflow:serving:"
        self._requests = Counter(f"{serving}request_count", "Requests.", ("model_name", "status"),
                                 registry=self._registry)
        self._latency = Histogram(f"{serving}request_latency", "Microseconds that requests took.",
                                  ("model_name", "API", "entrypoint"), buckets=_LATENCY, registry=self._registry)
        self._runtime = Histogram(f"{serving}runtime_latency", "Microseconds that models took, waiting included.",
                                  ("model_name", "API", "runtime"), buckets=_LATENCY, registry=self._registry)
        self._inferences = Counter("trt_pipeline_inference_count", "Requests that reached a model.",
                                   ("model_name", "version", "signature", "API", "status"), registry=self._registry)
        session = f"{serving}batching_session:"
        self._input = Histogram(f"{session}input_batch_size", "Rows of requests.", buckets=_ROWS,
                                registry=self._registry)
        self._processed = Histogram(f"{session}processed_batch_size", "Rows of batches, padding included.",
                                    buckets=_ROWS, registry=self._registry)
        self._padding = Histogram(f"{session}padding_size", "Rows that batches were padded with.",
                                  ("execution_batch_size",), buckets=_ROWS, registry=self._registry)
        self._queuing = Histogram(f"{session}queuing_latency", "Microseconds that requests waited for their batch.",
                                  ("thread_pool_name",), buckets=_QUEUING, registry=self._registry)
        self._runs = Counter(f"{session}wrapped_run_count", "Batches.", registry=self._registry)
        self._queued = Gauge("trt_pipeline_queued_rows", "Rows that wait to be batched.", registry=self._registry)

    def observe(self, model: str, api: str, entrypoint: str, seconds: float, code: int) -> None:
        """A request: ``code`` 0 where it was answered, else that of its refusal.

        Args:
            model: the name that the request has.
            api: Predict, Classify, ...
            entrypoint: GRPC or REST.
        """
        name = model if model in self._models.names() else _UNKNOWN
        self._requests.labels(name, _status(code)).inc()
        if not code:
            self._latency.labels(name, api, entrypoint).observe(seconds * 1e6)

    def inferred(self, servable: Servable, signature: str, api: str, seconds: float, code: int) -> None:
        """What became of a request that reached a model, and how long it took there."""
        known = signature if signature in servable.contract.signatures else _UNKNOWN
        self._inferences.labels(servable.name, str(servable.version), known, api, _status(code)).inc()
        if not code:
            self._runtime.labels(servable.name, api, "TF1").observe(seconds * 1e6)

    def batch_input(self, rows: int) -> None:
        """A request of so many ``rows`` is to be batched."""
        self._input.observe(rows)

    def batch_run(self, rows: int, filled: int, waited: Sequence[float], threads: str) -> None:
        """A batch of ``rows`` rows, padded to ``filled``, whose requests ``waited`` so many seconds, is run.

        Args:
            threads: name of the pool that it runs in.
        """
        self._processed.observe(filled)
        self._padding.labels(str(filled)).observe(filled - rows)
        self._runs.inc()
        for seconds in waited:
            self._queuing.labels(threads).observe(seconds * 1e6)

    def watch_queue(self, rows: Callable[[], int]) -> None:
        """Ask ``rows`` for the rows that wait whenever the text is asked for."""
        self._queued.set_function(rows)

    def text(self) -> bytes:
        """All of it, as ``/monitoring/prometheus/metrics`` shows it."""
        states = {name: self._states(name) for name in self._models.names()}
        live = {(name, str(state.version)) for name in states for state in states[name]}
        counted = {tuple(sample.labels.values()) for metric in self._inferences.collect() for sample in metric.samples}
        for labels in counted:
            if labels[:2] not in live:
                self._inferences.remove(*labels)
        return _COUNTS.sub(rb"\1", generate_latest(_Page(self._registry, states)))

    def _states(self, name: str) -> list[VersionState]:
        try:
            return self._models.states(name)
        except RefusalError:  # it has no version yet
            return []


class _Page:
    """A registry without the times at which its figures were made, and with the states of versions."""

    def __init__(self, registry: CollectorRegistry, states: dict[str, list[VersionState]]) -> None:
        self._registry, self._states = registry, states

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        found = GaugeMetricFamily("trt_pipeline_version_state", "1 for the state that a version is in.",
                                  labels=("model_name", "version", "state"))
        for name, states in self._states.items():
            for state in states:
                found.add_metric([name, str(state.version), state.state.name], 1)
        yield found


def _status(code: int) -> str:
    return Code(code).name if code else "OK"
