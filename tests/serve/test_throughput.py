"""What dynamic batching brings to many clients that send one sentence each."""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from tests.conftest import ROOT
from tests.server_process import server_process
from trt_pipeline.serve import batching_parameters, tensor_protos
from trt_pipeline.serve.batching_parameters import BatchingParameters

CLIENTS, SECONDS, ROUNDS = 32, 2.5, 3
WIDTH = 8  # of the sentences of enko's samples, half have no more tokens


def requests() -> str:
    sentences = np.load(ROOT / "calibration_data" / "enko_validation.npz")["input"]
    short = sentences[np.count_nonzero(sentences, axis=1) <= WIDTH, :WIDTH]
    lines = []
    for sentence in short:
        request = predict_pb2.PredictRequest(inputs={"input": tensor_protos.to_proto(sentence[None])})
        request.model_spec.name, request.model_spec.signature_name = "enko", "translate"
        lines.append(request.SerializeToString().hex())
    return "\n".join(lines)


def answered(address: str, sent: str, seconds: float = SECONDS) -> float:
    """Requests that 32 clients get answered in a second."""
    load = [sys.executable, str(Path(__file__).with_name("load_main.py")), address, str(CLIENTS), str(seconds)]
    return int(subprocess.run(load, input=sent, text=True, stdout=subprocess.PIPE, check=True).stdout) / seconds


@pytest.mark.alone
@pytest.mark.slow
def test_batching_answers_more_than_twice_as_many_requests(tmp_path: Path) -> None:
    parameters = tmp_path / "batching_parameters.txt"
    parameters.write_text(batching_parameters.text(BatchingParameters(max_batch_size=32)))
    sent = requests()
    with ExitStack() as stack:
        enko = {"enko": ROOT / "models/enko"}
        addresses = [stack.enter_context(server_process(enko, *options)).grpc
                     for options in (["--no-batching"], ["--batching", str(parameters)])]
        for address in addresses:
            answered(address, sent, 1.0)
        rounds = [[answered(address, sent) for address in addresses] for _ in range(ROUNDS)]
    ratio = statistics.median(batched / single for single, batched in rounds)
    print(f"requests a second without and with batching: {rounds}")
    assert ratio >= 2, rounds
