"""A request to `Estimator.predict` and to `estimators.Predictor`: the figures of docs/estimators.md.

`python -m benchmarks predictor`; the Estimator is the one of models/iris, trained anew.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console

from trt_pipeline.benchmarking.statistics import latency, ratios

_ROUNDS = 10
# The slow side builds a graph and reads a checkpoint each time.
_SLOW_CALLS, _FAST_CALLS = 5, 200
_BATCH_SIZES = (1, 32)


def main(console: Console) -> None:
    """Both answer the same request in turn, in one process, round after round."""
    import tensorflow as tf

    from models.iris import classifier, flowers
    from trt_pipeline import estimators

    training, held_out = flowers.load_split()
    with tempfile.TemporaryDirectory() as folder:
        estimator = classifier.classifier(training, Path(folder) / "checkpoints")
        classifier.train(estimator, training)
        exported = estimators.export(estimator, Path(folder) / "iris", features=classifier.columns(training))
        with estimators.Predictor(exported) as predictor:
            for size in _BATCH_SIZES:
                request = {name: values[:size] for name, values in held_out.features().items()}

                def ask(request: Any = request) -> Any:
                    return predictor(request)["logits"]

                def estimate(request: Any = request, size: int = size) -> Any:
                    def batch() -> tf.data.Dataset:
                        return tf.data.Dataset.from_tensor_slices(request).batch(size)

                    return [one["logits"] for one in estimator.predict(batch)]

                np.testing.assert_allclose(ask(), estimate(), rtol=1e-5, atol=1e-6)
                rounds = [(_spent(estimate, _SLOW_CALLS), _spent(ask, _FAST_CALLS)) for _ in range(_ROUNDS)]
                slow, fast = ([both[side].seconds for both in rounds] for side in (0, 1))
                for name, series in (("Estimator.predict", slow), ("Predictor", fast)):
                    told = latency(np.concatenate(series), size)
                    console.print(f"{name}, batch {size}: p50 {told.p50:.3g} ms, p99 {told.p99:.3g} ms", markup=False)
                # Processor time as well: what else the machine does slows the longer calls down by more.
                each = np.percentile([a.processor / b.processor for a, b in rounds], [10, 50, 90])
                ratio = ratios(slow, fast)["latency_p50"]
                console.print(f"Estimator.predict over Predictor, batch {size}: p50 {ratio}; "
                              "processor time, 10th, 50th and 90th percentile of the rounds: "
                              + " / ".join(f"{value:.0f}x" for value in each), markup=False, soft_wrap=True)


class _Spent(NamedTuple):
    seconds: npt.NDArray[np.float64]
    """Of each call, (calls,)."""
    processor: float
    """Seconds of the processor's time for a call, all threads, on average."""


def _spent(call: Callable[[], Any], times: int) -> _Spent:
    seconds = np.empty(times)
    processor = time.process_time()
    for number in range(times):
        started = time.perf_counter()
        call()
        seconds[number] = time.perf_counter() - started
    return _Spent(seconds, (time.process_time() - processor) / times)
