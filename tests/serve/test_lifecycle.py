"""New versions are published while clients ask: no request fails, and each answer is of one whole version."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from trt_pipeline.serve import running
from trt_pipeline.serve.batching_parameters import BatchingParameters

CLIENTS, VERSIONS = 50, 5
_BATCHING = BatchingParameters(max_batch_size=16)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SavedModels 1 to 6 whose every output is the version's number, from a variable, a constant and an asset."""
    folder = tmp_path_factory.mktemp("versions")
    for number in range(1, VERSIONS + 2):
        vocabulary = folder / f"{number}.txt"
        vocabulary.write_text(f"{number}\n")

        class Numbered(tf.Module):  # type: ignore[misc]
            def __init__(self, number: int, asset: Path) -> None:
                super().__init__()
                self.variable = tf.Variable(float(number))
                self.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
                    str(asset), tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE), "none")
                self.number = number

            @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
            def answer(self, x: Any) -> Any:
                ones = tf.ones_like(x[:, 0])
                mixed = tf.linalg.matmul(tf.linalg.matmul(x, x, transpose_b=True), x)  # so that it takes some time
                return {"variable": ones * self.variable + 0.0 * mixed[:, 0], "constant": ones * self.number,
                        "asset": self.table.lookup(tf.cast(0.0 * ones, tf.int64))}

        model = Numbered(number, vocabulary)
        tf.saved_model.save(model, str(folder / str(number)), signatures=model.answer)
    return folder


@pytest.mark.parametrize("batching", [None, _BATCHING], ids=["alone", "batched"])
def test_fifty_clients_while_five_versions_are_published(  # noqa: C901
        versions: Path, tmp_path: Path, batching: BatchingParameters | None) -> None:
    base = tmp_path / "numbered"
    base.mkdir()
    shutil.copytree(versions / "1", base / "1")
    failures: list[str] = []
    seen: list[list[int]] = [[] for _ in range(CLIENTS)]
    finished = threading.Event()
    request = predict_pb2.PredictRequest(inputs={"x": tf.make_tensor_proto(tf.zeros([2, 8]))})
    request.model_spec.name = "numbered"

    def client(stub: PredictionServiceStub, answers: list[int]) -> None:
        while not finished.is_set():
            try:
                response = stub.Predict(request, timeout=60)
            except grpc.RpcError as error:
                failures.append(f"{error.code()}: {error.details()}")
                return
            said = {int(value) for output in response.outputs.values()
                    for value in (*output.float_val, *output.string_val)}
            if said != {response.model_spec.version.value}:
                failures.append(f"an answer of version {response.model_spec.version.value} says {said}")
            answers.append(response.model_spec.version.value)

    with running({"numbered": base}, batching=batching, poll_seconds=0.05) as addresses:
        channels = [grpc.insecure_channel(addresses.grpc, [("grpc.use_local_subchannel_pool", 1)])
                    for _ in range(CLIENTS)]
        threads = [threading.Thread(target=client, args=(PredictionServiceStub(channel), answers))
                   for channel, answers in zip(channels, seen, strict=True)]
        for thread in threads:
            thread.start()
        try:
            status = model_service_pb2_grpc.ModelServiceStub(channels[0])
            for number in range(2, VERSIONS + 2):
                staged = tmp_path / f".{number}"
                shutil.copytree(versions / str(number), staged)
                staged.rename(base / str(number))
                _until_only(status, number)
                asked = [len(answers) for answers in seen]
                deadline = time.monotonic() + 60  # that some are answered by it
                while any(len(answers) == before for answers, before in zip(seen, asked, strict=True)):
                    assert time.monotonic() < deadline and not failures, failures
                    time.sleep(0.01)
        finally:
            finished.set()
            for thread in threads:
                thread.join()
            for channel in channels:
                channel.close()
    assert not failures
    for answers in seen:
        assert answers == sorted(answers), "an old version answered after a newer one"
    assert {number for answers in seen for number in answers} == set(range(1, VERSIONS + 2))


def _until_only(stub: model_service_pb2_grpc.ModelServiceStub, version: int) -> None:
    """Wait until ``version`` is available and all before it are gone."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "numbered"
    deadline = time.monotonic() + 120
    while True:
        states = {s.version: s.state for s in stub.GetModelStatus(request, timeout=60).model_version_status}
        if states.get(version) == 30 and all(state == 50 for older, state in states.items() if older < version):
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.02)
