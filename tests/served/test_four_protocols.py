"""One model in two servers, asked in four protocols: one way to ask, one answer, one verdict."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.client.toy import THIRD
from tests.served.conftest import SIGNATURES, Toy
from trt_pipeline import client
from trt_pipeline.client.protocol import Spec
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples import store
from trt_pipeline.served import endpoint
from trt_pipeline.served.runner import ServedRunner
from trt_pipeline.served.verify import verify

pytestmark = pytest.mark.slow  # tritonserver takes its time to start

def test_the_same_question_has_the_same_answer(address: str, toy: Toy) -> None:
    """Triton has no row without an axis, so what has one value a row is a column there."""
    column = (-1, 1) if address.startswith("triton+") else (-1,)
    words = {"text": np.array(["é".encode(), b"b"], object).reshape(column), "number": np.array([1, 2]).reshape(column)}
    with client.connect(address) as server:
        pairs = server.predict("toy", {"pairs": [[1, 2], [3, float("nan")]]})
        np.testing.assert_array_equal(pairs["total"].ravel(), np.array([3, np.nan], np.float32))
        np.testing.assert_array_equal(pairs["third"], np.array([[1, 2], [3, np.nan]], np.float32) * THIRD)
        for inputs in (words, {name: value.tolist() for name, value in words.items()}):
            answer = server.predict("toy", inputs, signature="words", version=1)
            assert (answer["next"].dtype, answer["next"].ravel().tolist()) == (np.int64, [2, 3])
            assert answer["shout"].ravel().tolist() == ["É".encode(), b"B"]
        assert list(server.predict("toy", {"pairs": [[1, 2]]}, outputs=["total"])) == ["total"]
        assert list(server.metadata("toy", signature="words").signature("words").inputs) == ["number", "text"]
        assert [(one.version, one.state) for one in server.status("toy")] == [(1, "AVAILABLE")]
        assert (server.ready(), server.ready("toy"), server.ready("other")) == (True, True, False)


def test_asyncio_asks_the_same(address: str) -> None:
    async def ask() -> None:
        async with client.connect_async(address) as server:
            answers = await asyncio.gather(*(server.predict("toy", {"pairs": [[n, 1]]}) for n in range(20)))
            assert [answer["total"].ravel().tolist() for answer in answers] == [[n + 1.0] for n in range(20)]
            assert (await server.metadata("toy")).version == 1
            assert await server.describe()

    asyncio.run(ask())


@pytest.mark.parametrize(("code", "asked"), [
    ("NOT_FOUND", {"model": "other"}), ("NOT_FOUND", {"version": 7}), ("INVALID_ARGUMENT", {"outputs": ["other"]}),
    ("FAILED_PRECONDITION", {"signature": "other"})])
def test_the_same_mistake_has_the_same_code(code: str, asked: dict[str, object], address: str) -> None:
    question = {"model": "toy", "inputs": {"pairs": [[1, 2]]}} | asked
    with client.connect(address) as server, pytest.raises(client.RequestError) as refused:
        server.predict(**question)  # type: ignore[arg-type]
    assert refused.value.code == code


def runner(toy: Toy, address: str) -> ServedRunner:
    with client.connect(address) as server:
        found = endpoint.find(server, Spec("toy"), toy.contract, SIGNATURES, SIGNATURES)
    return ServedRunner(toy.contract, address, found, timeout=60)


def test_what_is_served_passes_the_gate_of_the_original(address: str, toy: Toy) -> None:
    told: list[tuple[int, int]] = []
    verdict, found = verify(runner(toy, address), toy.reference, toy.answers, toy.samples, Gate(), "native", 10,
                            lambda done, total: told.append((done, total)))
    assert verdict.passed, verdict.reason
    assert {(one.signature, one.output) for one in verdict.outputs} == {
        ("serving_default", "total"), ("serving_default", "third"), ("words", "shout"), ("words", "next")}
    assert told[-1] == (len(toy.reference.cases), len(toy.reference.cases))
    for name in SIGNATURES:
        assert (found[name].version, found[name].batch_size) == (1, 1)
        steady = found[name].steady
        assert steady
        assert (steady.requests, found[name].first_request > 0) == (10, True)
        assert steady.p50 <= steady.p90 <= steady.p99


def test_what_says_something_else_does_not_pass(toy: Toy, address: str, tmp_path: Path) -> None:
    """As if the original had said it otherwise: the last word of the last case."""
    altered = tmp_path / "answers"
    for number in range(len(toy.reference.cases)):
        outputs = store.read(toy.answers / str(number))
        if number == len(toy.reference.cases) - 1:
            outputs["shout"] = np.array([*outputs["shout"][:-1], b"other"], object)
        store.write(outputs, altered / str(number))
    verdict, found = verify(runner(toy, address), toy.reference, altered, toy.samples, Gate(), "native", 10,
                            lambda done, total: None)
    assert not verdict.passed
    assert verdict.reason.startswith("words.shout: ")
    assert all(one.steady is None for one in found.values()), "nobody wants to know how fast it is wrong"


def test_a_server_that_goes_away_is_not_the_models_fault(toy: Toy, address: str) -> None:
    gone = runner(toy, address)
    gone.address = f"{address.partition('://')[0]}://127.0.0.1:1"
    with pytest.raises(client.UnreachableError):
        verify(gone, toy.reference, toy.answers, toy.samples, Gate(), "native", 0, lambda done, total: None)

