"""What predict takes and answers, in rows and in columns."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

PREDICT = "/v1/models/toy:predict"
Ask = Callable[..., tuple[int, Any]]
Raw = Callable[..., tuple[int, bytes]]


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def test_rows_of_a_plain_list_answer_objects_where_there_are_several_outputs(ask: Ask) -> None:
    assert ask(PREDICT, {"instances": [[1, 2], [3.5, 4]]}) == (200, {"predictions": [
        {"double": [2.0, 4.0], "total": 3.0}, {"double": [7.0, 8.0], "total": 7.5}]})


def test_columns_answer_an_object_where_there_are_several_outputs(ask: Ask) -> None:
    expected = 200, {"outputs": {"double": [[2.0, 4.0], [7.0, 8.0]], "total": [3.0, 7.5]}}
    assert ask(PREDICT, {"inputs": [[1, 2], [3.5, 4]]}) == expected
    assert ask(PREDICT, {"inputs": {"x": [[1, 2], [3.5, 4]]}}) == expected


def test_a_single_output_goes_without_its_name(ask: Ask) -> None:
    rows, columns = ({"signature_name": "third", key: [3, 6]} for key in ("instances", "inputs"))
    assert ask(PREDICT, rows) == (200, {"predictions": [1.0, 2.0]})
    assert ask(PREDICT, columns) == (200, {"outputs": [1.0, 2.0]})


def test_rows_may_name_their_inputs(ask: Ask) -> None:
    document = {"signature_name": "words", "instances": [
        {"text": "a", "number": 1}, {"number": 2**53, "text": b64(b"b")}]}
    assert ask(PREDICT, document) == (200, {"predictions": [
        {"next": 2, "raw_bytes": b64(b"a"), "shout": "A"},
        {"next": 2**53 + 1, "raw_bytes": b64(b"b"), "shout": "B"}]})


def test_an_empty_batch_comes_back_empty_in_columns_and_is_refused_in_rows(ask: Ask) -> None:
    assert ask(PREDICT, {"signature_name": "third", "inputs": []}) == (200, {"outputs": []})
    status, answer = ask(PREDICT, {"signature_name": "third", "instances": []})
    assert status == 400
    assert "No values in 'instances' array" in answer["error"]


@pytest.mark.parametrize("data", [b"", b"plain", "caf\u00e9 \u2603".encode(), b"\xff\x00\xfe", b"tail\x00"])
def test_strings_come_back_byte_for_byte(ask: Ask, data: bytes) -> None:
    sent = {"signature_name": "words", "inputs": {"text": [b64(data)], "number": [0]}}
    assert ask(PREDICT, sent)[1]["outputs"]["raw_bytes"] == [b64(data)]


def test_text_is_text_where_the_name_does_not_end_in_bytes_and_base64_where_it_is_no_text(ask: Ask) -> None:
    sent = {"signature_name": "echo", "instances": ["caf\u00e9", b64(b"\xff\xfe"), {"b64": "eA"}]}
    assert ask(PREDICT, sent) == (200, {"predictions": ["caf\u00e9", b64(b"\xff\xfe"), "x"]})


def test_floats_are_written_as_tensorflow_serving_writes_them(raw: Raw) -> None:
    body = b'{"signature_name": "third", "instances": [3, 1, 0.3, 2.7e7, 0.00003, -0.0, NaN, Infinity, -Infinity]}'
    status, answer = raw("POST", PREDICT, body)
    assert status == 200
    text = answer.decode().partition(": [")[2].partition("]")[0]
    assert text.split(", ") == [
        "1.0", "0.333333343", "0.100000009", "9e+06", "1e-05", "-0.0", "NaN", "Infinity", "-Infinity"]


def test_every_float32_survives_the_way_through_json(ask: Ask) -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    status, answer = ask(PREDICT, {"signature_name": "pairs", "inputs": values.tolist()})
    assert status == 200
    assert np.array_equal(np.array(answer["outputs"], np.float32).ravel(), values)


def test_integers_booleans_doubles_and_scalars_keep_their_types_and_limits(raw: Raw) -> None:
    largest, smallest = 2**63 - 1, -(2**63)
    document = {"signature_name": "kinds", "inputs": {
        "small": [0, 255], "flag": True, "fine": 1 / 3, "large": [largest, smallest]}}
    status, answer = raw("POST", PREDICT, json.dumps(document).encode())
    assert (status, json.loads(answer)["outputs"]) == (200, document["inputs"])
    assert b"0.33333333333333331" in answer


def test_numbers_that_a_float_cannot_hold_are_rounded(ask: Ask) -> None:
    assert ask(PREDICT, {"inputs": [[16777217, 1e39], [0.1, -(2**63)]]})[1]["outputs"]["double"] == [
        [33554432.0, float("inf")], [0.2, -1.84467441e19]]


def test_numbers_that_python_does_not_know_and_bytes_that_are_no_text_are_taken(raw: Raw) -> None:
    status, answer = raw("POST", PREDICT, b'\xef\xbb\xbf{"signature_name": "third", "inputs": [Inf, -Inf, -NaN]}')
    assert (status, b"[Infinity, -Infinity, NaN]" in answer) == (200, True)
    strings = b'{"signature_name": "echo", "inputs": ["\xff\\n\\ud83d\\ude00", ""], "x": [null, true, {}, [], 1e0]}'
    status, answer = raw("POST", PREDICT, strings)
    assert (status, json.loads(answer)["outputs"]) == (200, [b64(b"\xff\n" + "\U0001f600".encode()), ""])


def test_small_integers_keep_their_lower_bits(ask: Ask) -> None:
    document = {"signature_name": "kinds", "inputs": {"small": [256, -1], "flag": True, "fine": 1, "large": [1]}}
    assert ask(PREDICT, document)[1]["outputs"]["small"] == [0, 255]


@pytest.mark.parametrize("version", ["", "/versions/10"])
def test_the_newest_version_answers_with_and_without_its_number(ask: Ask, version: str) -> None:
    assert ask(f"/v1/models/toy{version}:predict", {"instances": [[1, 1]]})[0] == 200


def test_twenty_at_once_each_get_their_own_answer(ask: Ask) -> None:
    def one(number: int) -> tuple[int, Any]:
        return ask(PREDICT, {"signature_name": "third", "instances": [3 * number] * (number + 1)})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert answers == [(200, {"predictions": [float(number)] * (number + 1)}) for number in range(20)]
