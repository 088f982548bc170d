"""enko as it is published for Triton, in the real one: what it says, and how it bears a load."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.triton import perf_analyzer
from tests.triton.served import Original, original
from tests.triton.triton_server import Triton, serving
from trt_pipeline import api
from trt_pipeline.parity.reference import outputs
from trt_pipeline.publish import triton

pytestmark = pytest.mark.slow
REQUESTS = 10_000


@pytest.fixture(scope="module")
def enko(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return original("enko", tmp_path_factory.mktemp("enko"), batch_size=25)


@pytest.fixture(scope="module")
def server(enko: Original, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("published")
    made = api.convert(enko.config.model, "onnxruntime", "fp32", folder / "made", signatures=enko.signatures)
    warm_up = {name: [enko.samples[name].take(range(8))] for name in enko.signatures}
    assert triton.publish(
        made.artifact, made.folder, {name: enko.contract.signatures[name] for name in enko.signatures},
        folder / "serving/triton", "enko", enko.config.max_batch_size, {"digest": "a"}, None,
        requests=warm_up) == (1, True)
    with serving(folder / "serving/triton") as server:
        yield server


def counts(server: Triton) -> tuple[int, int]:
    """Requests that were answered, and runs of the model that took."""
    version, = json.loads(server.get("/v2/models/enko/versions/1/stats"))["model_stats"]
    return version["inference_stats"]["success"]["count"], version["execution_count"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_it_says_what_the_original_says_within_the_gate(protocol: str, enko: Original, server: Triton) -> None:
    verdict = enko.judge(server, protocol, "fp32")
    assert verdict.passed, verdict.reason
    tokens = next(output for output in verdict.outputs if output.output == "outputs")
    assert (tokens.gate, tokens.figures[0].token_match) == ("exact", 1.0)


def test_10000_requests_of_8_clients_at_once_and_each_is_answered_as_the_original_does(
        enko: Original, server: Triton) -> None:
    """The shortest quarter of the sentences, so that it takes half a minute."""
    samples = enko.samples["translate"]
    short = np.argsort(samples.lengths, kind="stable")[:len(samples) // 4]
    sentences = [samples.take([row])["input"][0] for row in short]
    answered, runs = counts(server)
    load = perf_analyzer.load(server.grpc, "enko", [{"input": one} for one in sentences], requests=REQUESTS,
                              concurrency=8)
    print(load)
    assert load.requests == REQUESTS
    expected = translations(enko)
    wrong = [(given, got) for given, got in load.answers
             if without_padding(got["outputs"]) != expected[without_padding(given["input"])]]
    assert wrong == []
    deadline = time.monotonic() + 30
    while counts(server)[0] < answered + REQUESTS:  # an answer goes out before it is counted
        assert time.monotonic() < deadline, counts(server)
    assert counts(server)[0] == answered + REQUESTS
    assert counts(server)[1] - runs < REQUESTS, "what waits is batched"


def translations(enko: Original) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Sentence -> what the original makes of it."""
    found = {}
    for number, case in enumerate(enko.reference.cases):
        given = enko.samples[case.signature].take(case.rows)["input"]
        for sentence, words in zip(given, outputs(enko.answers, number)["outputs"], strict=True):
            found[without_padding(sentence)] = without_padding(words)
    return found


def without_padding(tokens: Sequence[int]) -> tuple[int, ...]:
    return tuple(np.trim_zeros(np.asarray(tokens), "b").tolist())
