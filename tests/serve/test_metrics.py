"""The metrics' text: TensorFlow Serving's names, and no series that a client can make."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from store_models import config, save

from trt_pipeline.serve.batching import Batching
from trt_pipeline.serve.batching_parameters import BatchingParameters
from trt_pipeline.serve.metrics import Metrics
from trt_pipeline.serve.refusal import Code, RefusalError
from trt_pipeline.serve.store import ModelStore, Spec


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelStore]:
    base = tmp_path_factory.mktemp("metrics") / "tiny"
    save(base / "3", 3)
    store = ModelStore(config(base))
    store.start()
    yield store
    store.stop()


def series(metrics: Metrics) -> dict[str, float]:
    """Every series of the text, as it is written there, without the type."""
    lines = metrics.text().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines
                                                      if not line.startswith("#"))}


def test_requests_are_counted_by_model_and_status_under_tensorflow_servings_names(store: ModelStore) -> None:
    metrics = Metrics(store)
    for code in (0, 0, Code.INVALID_ARGUMENT):
        metrics.observe("tiny", "Predict", "GRPC", 0.0015, code)
    found = series(metrics)
    assert found[':tensorflow:serving:request_count{model_name="tiny",status="OK"}'] == 2
    assert found[':tensorflow:serving:request_count{model_name="tiny",status="INVALID_ARGUMENT"}'] == 1
    labels = 'API="Predict",entrypoint="GRPC",model_name="tiny"'
    # Of those that succeed; microseconds.
    assert found[f":tensorflow:serving:request_latency_count{{{labels}}}"] == 2
    assert found[f":tensorflow:serving:request_latency_sum{{{labels}}}"] == pytest.approx(3000)
    assert found[':tensorflow:serving:request_latency_bucket{API="Predict",entrypoint="GRPC",le="10.0",'
                 'model_name="tiny"}'] == 0


def test_a_prometheus_server_can_read_the_text(store: ModelStore) -> None:
    metrics = Metrics(store)
    metrics.observe("tiny", "Predict", "REST", 0.1, 0)
    text = metrics.text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families[":tensorflow:serving:request_latency"].type == "histogram"
    assert "_created" not in text
    assert re.search(r"^# TYPE :tensorflow:serving:request_count counter$", text, re.MULTILINE)


def test_clients_cannot_make_series(store: ModelStore) -> None:
    metrics = Metrics(store)
    metrics.observe("nonsense", "Predict", "GRPC", 0.1, Code.NOT_FOUND)
    before = set(series(metrics))
    with store.lease(Spec("tiny")) as servable:
        metrics.inferred(servable, "nonsense", "Predict", 0.1, Code.FAILED_PRECONDITION)
        after = set(series(metrics))
        for number in range(100):
            metrics.observe(f"nonsense-{number}", "Predict", "GRPC", 0.1, Code.NOT_FOUND)
            metrics.inferred(servable, f"nonsense-{number}", "Predict", 0.1, Code.FAILED_PRECONDITION)
    assert {name for name in before if "unknown" in name} == {
        ':tensorflow:serving:request_count{model_name="unknown",status="NOT_FOUND"}'}
    assert set(series(metrics)) == after


def test_batches_and_their_queue_are_counted(store: ModelStore) -> None:
    metrics = Metrics(store)

    async def ask() -> None:
        batching = Batching(BatchingParameters(
            allowed_batch_sizes=(4, 1000), batch_timeout_micros=20_000, thread_pool_name="batches"), 1, metrics)
        with store.lease(Spec("tiny")) as servable:
            asked = [asyncio.create_task(batching.infer(servable, "serving_default",
                                                        {"x": np.ones((1, 2), np.float32)})) for _ in range(3)]
            await asyncio.sleep(0)
            assert series(metrics)["trt_pipeline_queued_rows"] == 3
            await asyncio.gather(*asked)
            with pytest.raises(RefusalError):
                await batching.infer(servable, "serving_default", {"y": np.ones((1, 2), np.float32)}, "Classify")
        await batching.close()

    asyncio.run(ask())
    found = series(metrics)
    session = ":tensorflow:serving:batching_session:"
    assert found["trt_pipeline_queued_rows"] == 0
    assert found[f"{session}wrapped_run_count"] == 1
    assert found[f"{session}input_batch_size_sum"] == 3
    assert found[f"{session}processed_batch_size_sum"] == 4
    assert found[f'{session}padding_size_sum{{execution_batch_size="4"}}'] == 1
    assert found[f'{session}queuing_latency_count{{thread_pool_name="batches"}}'] == 3
    counted = 'model_name="tiny",signature="serving_default",status="{}",version="3"'
    assert found[f'trt_pipeline_inference_count{{API="Predict",{counted.format("OK")}}}'] == 3
    assert found[f'trt_pipeline_inference_count{{API="Classify",{counted.format("INVALID_ARGUMENT")}}}'] == 1
    assert found[':tensorflow:serving:runtime_latency_count{API="Predict",model_name="tiny",runtime="TF1"}'] == 3


def test_versions_are_shown_with_their_state_and_forgotten_with_it(tmp_path: Path, store: ModelStore) -> None:
    metrics = Metrics(store)
    assert series(metrics)['trt_pipeline_version_state{model_name="tiny",state="AVAILABLE",version="3"}'] == 1
    with store.lease(Spec("tiny")) as servable:
        metrics.inferred(servable, "words", "Predict", 0.1, 0)
        assert any("inference_count{" in name for name in series(metrics))
        other = ModelStore(config(tmp_path))  # knows of no version
        of_other = Metrics(other)
        of_other.inferred(servable, "words", "Predict", 0.1, 0)
        assert not any("inference_count{" in name for name in series(of_other))
