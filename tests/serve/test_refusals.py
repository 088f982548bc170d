"""Requests that get no result: the status and the words of TensorFlow Serving, and never more than words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from trt_pipeline.serve.servable import Servable

PREDICT = "/v1/models/toy:predict"
Ask = Callable[..., tuple[int, Any]]
Raw = Callable[..., tuple[int, bytes]]


@pytest.mark.parametrize(("method", "path", "status", "error"), [
    ("POST", "/v1/models/x:foo", 400, "Malformed request: POST /v1/models/x:foo"),
    ("POST", "/v1/models/toy:PREDICT", 400, "Malformed request: POST /v1/models/toy:PREDICT"),
    ("POST", "/v1/models/toy", 400, "Malformed request: POST /v1/models/toy"),
    ("GET", "/v1/models/toy:predict", 400, "Malformed request: GET /v1/models/toy:predict"),
    ("GET", "/v1/models/toy/versions/x", 400, "Malformed request: GET /v1/models/toy/versions/x"),
    ("GET", "/v1/models/a/../../etc", 400, "Malformed request: GET /v1/models/a/../../etc"),
    ("DELETE", "/v1/models/toy", 400, "Malformed request: DELETE /v1/models/toy"),
    ("GET", "/v1/models", 400, "Missing model name in request."),
    ("GET", "/v1/models/versions/1", 400, "Missing model name in request."),
    ("GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    ("POST", "/v1/models/toy:predict?x=1", 400, "Malformed request: POST /v1/models/toy:predict?x=1"),
    ("GET", "/v1/models/zzz", 404, "Could not find any versions of model zzz"),
    ("GET", "/v1/models/toy/versions/9", 404, "Could not find version 9 of model toy"),
    ("GET", "/v1/models/zzz/metadata", 404, "Servable not found for request: Latest(zzz)"),
    ("GET", "/v1/models/%2e%2e%2ftoy/metadata", 404, "Servable not found for request: Latest(../toy)"),
    ("POST", "/v1/models/zzz:predict", 404, "Servable not found for request: Latest(zzz)"),
    ("POST", "/v1/models/toy/versions/2:predict", 404, "Servable not found for request: Specific(toy, 2)"),
    ("POST", "/v1/models/toy/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
])
def test_paths(raw: Raw, method: str, path: str, status: int, error: str) -> None:
    got, body = raw(method, path, b'{"instances": [[1, 2]]}' if method == "POST" else None)
    assert (got, json.loads(body)) == (status, {"error": error})


def test_a_path_outside_of_the_api_is_not_found(ask: Ask) -> None:
    assert ask("/")[0] == 404


@pytest.mark.parametrize(("body", "error"), [
    (b"", "JSON Parse error: The document is empty"),
    (b" ", "JSON Parse error: The document is empty. at offset: 1"),
    (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
    (b'{"a"}', "JSON Parse error: Missing a colon after a name of object member. at offset: 4"),
    (b'{"a": 1]', "JSON Parse error: Missing a comma or '}' after an object member. at offset: 7"),
    (b'{"a": [1}', "JSON Parse error: Missing a comma or ']' after an array element. at offset: 8"),
    (b'{"a": nul}', "JSON Parse error: Invalid value. at offset: 9"),
    (b'{"a": -}', "JSON Parse error: Invalid value. at offset: 7"),
    (b'{"a": 1.}', "JSON Parse error: Miss fraction part in number. at offset: 8"),
    (b'{"a": 1e+}', "JSON Parse error: Miss exponent in number. at offset: 9"),
    (b'{"a": "b', "JSON Parse error: Missing a closing quotation mark in string. at offset: 8"),
    (b'{"a": "b\n"}', "JSON Parse error: Invalid escape character in string. at offset: 8"),
    (b'{"a": "\\x"}', "JSON Parse error: Invalid escape character in string. at offset: 7"),
    (b'{"a": "\\u12g4"}', "JSON Parse error: Incorrect hex digit after \\u escape in string. at offset: 7"),
    (b'{"a": "\\ud800\\u0041", ', "JSON Parse error: The surrogate pair in string is invalid. at offset: 7"),
    (b'{"a": [1]} x', "JSON Parse error: The document root must not be followed by other values. at offset: 11"),
    (b"\xff", "JSON Parse error: Invalid value. at offset: 0"),
    (b'{"signature_name": "echo", "instances": ["\\ud800"]}', "JSON Parse error: The surrogate pair"),
    (b'{"signature_name": "\\ud800", "instances": [1]}', "not found in signature def"),
    (b'{"instances": [1e999]}', "JSON Parse error: Number too big to be stored in double."),
    (b'{"instances": [' + b"9" * 5000 + b"]}", "JSON Parse error"),
    (b'{"signature_name": "echo", "instances": [' + b"9" * 400 + b"]}",
     "JSON Parse error: Number too big to be stored in double."),
    (b"[1]", "JSON Value: [\n    1\n] Is not object"),
    (b"{}", "Missing 'inputs' or 'instances' key"),
    (b'{"instances": [[1, 2]], "inputs": [[1, 2]]}', "expecting only one of 'inputs' or 'instances' keys to exist"),
    (b'{"instances": 1}', "Expecting 'instances' to be an list/array"),
    (b'{"signature_name": 1, "instances": [[1, 2]]}', "'signature_name' key must be a string value."),
    (b'{"signature_name": "nope", "instances": [[1, 2]]}', 'Serving signature name: "nope" not found in signature def'),
    (b'{"signature_name": "__saved_model_init_op", "instances": [1]}', "not found in signature def"),
])
def test_bodies(ask: Ask, body: bytes, error: str) -> None:
    status, answer = ask(PREDICT, body)
    assert status == 400
    assert error in answer["error"]


ELEMENT = "Failed to process element: "
INVALID = "of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize(("document", "error"), [
    ({"instances": [[1, 2], [3]]}, f"{ELEMENT}1 {INVALID}Expecting tensor size: 2 but got: 1"),
    ({"instances": [[1, 2], [[3, 4]]]}, f"{ELEMENT}1 {INVALID}Expecting shape [2] but got: [1,2]"),
    ({"instances": [[[1, 2], [3]]]},
     f"{ELEMENT}0 {INVALID}Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ({"instances": [[1, "2"]]},
     f'{ELEMENT}0 {INVALID}JSON Value: "2" Type: String is not of expected type: float'),
    ({"instances": [[1, True]]}, f"{ELEMENT}0 {INVALID}JSON Value: true Type: True is not of expected type: float"),
    ({"instances": [{"x": [1, 2]}, [1, 2]]}, "Expecting object but got list at item 1 of input list"),
    ({"instances": [[1, 2], {"x": [1, 2]}]}, "Expecting value/list but got object at item 1 of input list"),
    ({"instances": [{"x": [1, 2], "y": 1}]},
     f"{ELEMENT}0 key: y {INVALID}JSON object: does not have named input: y"),
    ({"instances": [{}]}, f"{ELEMENT}0 of 'instances' list. JSON object: {{}} keys must be equal to: x"),
    ({"inputs": {"y": [[1, 2]]}}, "Missing named input: x in 'inputs' object."),
    ({"inputs": [[1, 2], [3]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ({"inputs": [[1], 2]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ({"inputs": [1, [2]]}, "Encountered list at unexpected level: 1 expected < 1"),
    ({"inputs": [[None, 1]]}, "JSON Value: null Type: Null is not of expected type: float"),
    ({"inputs": 1}, "Invalid reduction dimension (1 for input with 0 dimension(s)"),
    ({"signature_name": "words", "inputs": ["a"]}, "inputs is a plain value/list, but expecting an object as multiple "
     "input tensors required as per tensorinfo_map"),
    ({"signature_name": "words", "instances": ["a"]}, "instances is a plain list, but expecting list of objects as "
     "multiple input tensors required as per tensorinfo_map"),
    ({"signature_name": "words", "inputs": {"text": ["a"], "number": [1.0]}},
     "JSON Value: 1.0 Type: Number is not of expected type: int64"),
    ({"signature_name": "words", "inputs": {"text": ["a"], "number": [2**63]}},
     "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64"),
    ({"signature_name": "words", "inputs": {"text": [1], "number": [1]}},
     "JSON Value: 1 Type: Number is not of expected type: string"),
    ({"signature_name": "echo", "inputs": [{"b64": "?"}]}, "Unable to base64 decode"),
    ({"signature_name": "echo", "inputs": [{"b65": "eA=="}]},
     'JSON Value: {\n    "b65": "eA=="\n} not formatted correctly for base64 data'),
    ({"signature_name": "kinds", "inputs": {"small": [2**31], "flag": True, "fine": 1, "large": [1]}},
     "JSON Value: 2147483648 Type: Number is not of expected type: uint8"),
    ({"signature_name": "kinds", "inputs": {"small": [1], "flag": 1, "fine": 1, "large": [1]}},
     "JSON Value: 1 Type: Number is not of expected type: bool"),
])
def test_inputs(ask: Ask, document: object, error: str) -> None:
    assert ask(PREDICT, document) == (400, {"error": error})


def test_an_output_without_a_batch_is_refused_in_rows(ask: Ask) -> None:
    assert ask(PREDICT, {"signature_name": "sum", "inputs": [1, 2]}) == (200, {"outputs": 3.0})
    assert ask(PREDICT, {"signature_name": "sum", "instances": [1, 2]}) == (
        400, {"error": "Tensor name: y has no shape information "})


def test_types_that_json_cannot_carry_are_not_implemented(ask: Ask) -> None:
    assert ask(PREDICT, {"signature_name": "half", "inputs": [1.5]}) == (
        501, {"error": "Conversion of JSON Value: 1.5 to type: half"})
    assert ask(PREDICT, {"signature_name": "half", "instances": [1.5]}) == (
        400, {"error": "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON "
                       "Value: 1.5 to type: half"})


def test_what_tensorflow_finds_wrong_is_one_line_without_a_stack(ask: Ask) -> None:
    status, answer = ask(PREDICT, {"signature_name": "pairs", "inputs": [1, 2, 3]})
    assert status == 400
    assert answer["error"] == ("Input to reshape is a tensor with 3 values, but the requested shape requires a "
                               "multiple of 2")


@pytest.mark.parametrize("depth", [40, 900, 100_000])
def test_deep_nesting_is_refused(ask: Ask, depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"x":', "}")):
        status, answer = ask(PREDICT, f'{{"inputs": {opening * depth}1{closing * depth}}}'.encode())
        assert status == 400
        assert len(answer["error"]) < 100_000
        assert "Traceback" not in answer["error"]


def test_a_long_value_is_not_sent_back_whole(ask: Ask) -> None:
    status, answer = ask(PREDICT, {"inputs": ["x" * 1_000_000], "instances": []})
    assert status == 400
    assert len(answer["error"]) < 100_000


def test_a_version_that_is_no_number_of_64_bits_is_refused_without_a_word(raw: Raw) -> None:
    assert raw("GET", "/v1/models/toy/versions/9223372036854775808") == (400, b"")


def test_a_failure_of_the_server_is_logged_and_not_told(ask: Ask, monkeypatch: pytest.MonkeyPatch,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a secret of the server")

    monkeypatch.setattr(Servable, "infer", fail)
    assert ask(PREDICT, {"inputs": [[1, 2]]}) == (500, {"error": "internal error: see the server's log"})
    assert "a secret of the server" in caplog.text
