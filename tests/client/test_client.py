"""What the clients ask and what they make of the answers: the same over gRPC and REST, with and without asyncio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.client.toy import THIRD
from trt_pipeline import client
from trt_pipeline.client import Server
from trt_pipeline.errors import InputError

AWKWARD = np.array([[0.1, 1e-37], [3.4028235e38, -np.inf], [np.nan, 16777217.0], [1 / 3, -0.0]], np.float32)


@pytest.fixture
def server(address: str) -> Iterator[Server]:
    with client.connect(address) as connected:
        yield connected


def test_lists_get_the_dtypes_of_the_signature(server: Server) -> None:
    answer = server.predict("toy", {"pairs": [[1, 2], [3, 4]]})
    assert list(answer) == ["third", "total"]
    assert (answer["total"].dtype, answer["total"].tolist()) == (np.float32, [3.0, 7.0])
    words = server.predict("toy", {"text": ["aé", b"b"], "number": [1, 2**53]}, signature="words")
    assert (words["next"].dtype, words["next"].tolist()) == (np.int64, [2, 2**53 + 1])


def test_floats_go_and_come_exactly(server: Server) -> None:
    third = server.predict("toy", {"pairs": AWKWARD})["third"]
    np.testing.assert_array_equal(third, AWKWARD * THIRD)
    assert np.signbit(third[3, 1])


def test_strings_are_bytes_whatever_they_were_given_as(server: Server) -> None:
    numbers = np.zeros(2, np.int64)
    for text in (["aé", "b"], np.array(["aé", "b"]), np.array(["aé".encode(), b"b"], object)):
        shout = server.predict("toy", {"text": text, "number": numbers}, signature="words")["shout"]
        assert shout.tolist() == ["AÉ".encode(), b"B"]
    binary = server.predict("toy", {"text": [b"\xff\x00\x00", b""]}, signature="length")["length"]
    assert binary.tolist() == [3, 0]


def test_no_rows_are_no_rows(server: Server) -> None:
    answer = server.predict("toy", {"text": [], "number": np.zeros(0, np.int64)}, signature="words")
    assert {name: (value.shape, value.dtype) for name, value in answer.items()} == {
        "next": ((0,), np.int64), "shout": ((0,), object)}


def test_only_the_outputs_asked_for(server: Server) -> None:
    assert list(server.predict("toy", {"pairs": [[1, 2]]}, outputs=["total"])) == ["total"]


def test_examples_are_classified_and_regressed(server: Server) -> None:
    examples = [{"pair": [1.5, 3]}, {"pair": np.array([0.1, 0.2], np.float32)}]
    expected = np.array([[1.5, 3], [0.1, 0.2]], np.float32) * THIRD
    classified = server.classify("toy", examples, signature="classify")
    assert [[one.label for one in row] for row in classified] == [["first", "second"]] * 2
    assert [[one.score for one in row] for row in classified] == expected.tolist()
    assert server.regress("toy", examples[:1], signature="regress") == [1.5]


def test_versions_and_labels(server: Server) -> None:
    assert server.metadata("toy").version == 2
    assert server.metadata("toy", label="stable").version == 1
    for which in ({"version": 1}, {"version": 2}, {"label": "stable"}):
        assert server.predict("toy", {"pairs": [[1, 2]]}, **which)["total"] == 3
    assert [(one.version, one.state, one.code) for one in server.status("toy")] == [
        (2, "AVAILABLE", "OK"), (1, "AVAILABLE", "OK")]
    assert [one.version for one in server.status("toy", version=1)] == [1]
    with pytest.raises(InputError, match="version 2 and label 'stable' at once"):
        server.predict("toy", {"pairs": [[1, 2]]}, version=2, label="stable")


def test_metadata_is_the_contract(server: Server) -> None:
    metadata = server.metadata("toy")
    assert set(metadata.signatures) == {"serving_default", "words", "length", "classify", "regress"}
    words = metadata.signature("words")
    assert {name: str(tensor) for name, tensor in words.inputs.items()} == {
        "number": "int64 (-1)", "text": "string (-1)"}
    assert str(metadata.signature().outputs["third"]) == "float32 (-1,2)"


def test_ready(server: Server) -> None:
    assert (server.ready(), server.ready("toy"), server.ready("nothing")) == (True, True, False)


@pytest.mark.parametrize(("code", "arguments"), [
    ("NOT_FOUND", {"model": "nothing"}),
    ("NOT_FOUND", {"version": 7}),
    ("INVALID_ARGUMENT", {"label": "canary"}),
    ("INVALID_ARGUMENT", {"outputs": ["nothing"]}),
    ("INVALID_ARGUMENT", {"inputs": {"pairs": np.zeros([1, 2], np.float32), "more": np.zeros(1, np.float32)}}),
    ("INVALID_ARGUMENT", {"inputs": {"other": np.zeros([1, 2], np.float32)}}),
])
def test_refusals_have_a_code_and_the_servers_words(code: str, arguments: dict[str, Any], server: Server) -> None:
    asked: dict[str, Any] = {"model": "toy", "inputs": {"pairs": np.zeros([1, 2], np.float32)}} | arguments
    with pytest.raises(client.RequestError) as refused:
        server.predict(**asked)
    assert refused.value.code == code
    assert refused.value.exit_status == 2
    assert refused.value.message
    assert str(refused.value) == f"{server.address}: {refused.value.message} ({code})"


def test_an_unknown_signature_is_refused(server: Server) -> None:
    with pytest.raises(client.RequestError, match="wrods") as refused:
        server.predict("toy", {"text": ["a"], "number": [1]}, signature="wrods")
    assert refused.value.code in ("FAILED_PRECONDITION", "INVALID_ARGUMENT")


@pytest.mark.parametrize("inputs", [
    {"number": [1.5], "text": ["a"]}, {"number": [2**63], "text": ["a"]}, {"number": [1], "text": [1]},
    {"number": [[1], [2, 3]], "text": ["a"]}])
def test_lists_that_do_not_fit_are_not_sent(inputs: dict[str, Any], server: Server) -> None:
    with pytest.raises(InputError, match=r"input '(number|text)'"):
        server.predict("toy", inputs, signature="words")


def test_a_feature_is_of_one_kind(server: Server) -> None:
    with pytest.raises(InputError, match="feature 'pair' is no list of numbers or of texts"):
        server.classify("toy", [{"pair": [1.0, "a"]}])


def test_many_at_once_from_asyncio(address: str) -> None:
    async def ask() -> None:
        async with client.connect_async(address) as server:
            answers = await asyncio.gather(*(server.predict("toy", {"pairs": [[n, 1]]}) for n in range(100)))
            assert [answer["total"].tolist() for answer in answers] == [[n + 1.0] for n in range(100)]
            assert await server.ready("toy")
            assert (await server.status("toy"))[0].version == 2
            assert (await server.metadata("toy", version=1)).version == 1
            assert await server.regress("toy", [{"pair": [1.5, 3.0]}], signature="regress") == [1.5]
            assert (await server.classify("toy", [{"pair": [3.0, 3.0]}], signature="classify"))[0][1].score == 1.0
            with pytest.raises(client.RequestError) as refused:
                await server.predict("nothing", {"pairs": [[1, 2]]})
            assert refused.value.code == "NOT_FOUND"

    asyncio.run(ask())


def test_importing_the_client_imports_no_library_of_a_protocol() -> None:
    heavy = {"tensorflow", "grpc", "httpx", "tritonclient", "tensorflow_serving"}
    found = subprocess.run(
        [sys.executable, "-c", "import sys; from trt_pipeline import client; client.connect_async; "
         f"print({heavy!r} & set(sys.modules))"], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
