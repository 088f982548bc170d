"""Classify and regress over REST: JSON examples to tf.Example, and their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from trt_pipeline.serve import json_examples
from trt_pipeline.serve.refusal import Code, RefusalError

CLASSIFY, REGRESS = "/v1/models/toy:classify", "/v1/models/toy:regress"
Ask = Callable[..., tuple[int, Any]]


def test_classify_answers_a_label_and_a_score_for_each_class(ask: Ask) -> None:
    document = {"signature_name": "classify", "examples": [
        {"x": [0.5, 0.25]}, {"x": [1.5, 2.5], "bias": 2, "name": "n"}, {"x": [0.1, 1e10], "name": {"b64": "bQ=="}}]}
    assert ask(CLASSIFY, document) == (200, {"results": [
        [["c0", 0.5], ["c1", 0.25]], [["n0", 3.5], ["n1", 4.5]], [["m0", 0.1], ["m1", 1e10]]]})


def test_scores_alone_have_empty_labels(ask: Ask) -> None:
    document = {"signature_name": "scores", "examples": [{"x": [0.5, 0.25]}]}
    assert ask(CLASSIFY, document) == (200, {"results": [[["", 0.5], ["", 0.25]]]})


def test_regress_answers_a_number_for_each_example(ask: Ask) -> None:
    document = {"signature_name": "regress", "examples": [{"x": [0.5, 0.25]}, {"x": [1.5, 2.5]}]}
    assert ask(REGRESS, document) == (200, {"results": [0.75, 4.0]})


def test_the_context_is_part_of_every_example_and_gives_way_to_it(ask: Ask) -> None:
    document = {"signature_name": "classify", "context": {"name": "all", "bias": 1},
                "examples": [{"x": [0.5, 0.25]}, {"x": [0.5, 0.25], "name": "own"}]}
    assert ask(CLASSIFY, document) == (200, {"results": [
        [["all0", 1.5], ["all1", 1.25]], [["own0", 1.5], ["own1", 1.25]]]})


def test_features_get_the_type_of_their_values() -> None:
    [serialized] = json_examples.read({"examples": [{
        "whole": [1, -(2**63)], "truth": [True, False], "decimal": [1.0, float("inf"), 1e300], "text": "caf\u00e9",
        "bytes": [{"b64": "/w=="}, "x"], "none": [], "huge": 2**64}]})
    features = tf.train.Example.FromString(serialized).features.feature
    assert {name: (feature.WhichOneof("kind"), list(getattr(feature, feature.WhichOneof("kind")).value))
            for name, feature in features.items() if feature.WhichOneof("kind")} == {
        "whole": ("int64_list", [1, -(2**63)]), "truth": ("int64_list", [1, 0]),
        "decimal": ("float_list", [1.0, float("inf"), float("inf")]),
        "text": ("bytes_list", ["caf\u00e9".encode()]), "bytes": ("bytes_list", [b"\xff", b"x"]),
        "huge": ("float_list", [2.0**64])}
    assert "none" in features


@pytest.mark.parametrize(("examples", "error"), [
    ([1], "Example must be JSON object but got JSON Number"),
    ([[]], "Example must be JSON object but got JSON Array"),
    ([{"x": None}], "Feature: x has element with unexpected JSON type: Null"),
    ([{"x": {"y": 1}}], "Feature: x has element with unexpected JSON type: Object"),
    ([{"x": [[1.0]]}], "Feature: x has element with unexpected JSON type: Array"),
    ([{"x": [1.0, 1]}], "Unexpected element type in feature: x expecting type: float"),
    ([{"x": [1, 1.0]}], "Unexpected element type in feature: x expecting type: int64"),
    ([{"x": ["1", True]}], "Unexpected element type in feature: x expecting type: bytes"),
    ([{"x": 2**63}], "Feature: x has uint64_t element. Only int64_t is supported."),
    ([{"x": {"b64": "?"}}], "Unable to base64 decode"),
])
def test_examples_that_are_none(examples: list[Any], error: str) -> None:
    with pytest.raises(RefusalError) as refused:
        json_examples.read({"examples": examples})
    assert (refused.value.code, refused.value.message) == (Code.INVALID_ARGUMENT, error)


@pytest.mark.parametrize(("path", "document", "error"), [
    (CLASSIFY, {"instances": []}, "When method is classify, key 'examples' is expected and was not found"),
    (REGRESS, {}, "When method is classify, key 'examples' is expected and was not found"),
    (CLASSIFY, {"examples": {}}, "Expecting 'examples' value to be an list/array"),
    (CLASSIFY, {"examples": []}, "'examples' value is an empty array"),
    (CLASSIFY, {"context": 1, "examples": [{}]}, "Example must be JSON object but got JSON Number"),
    (CLASSIFY, {"signature_name": "nope", "examples": [{}]}, "No signature was found with the name: nope"),
    (CLASSIFY, {"examples": [{}]}, "No classification inputs found in SignatureDef: inputs {"),
    (CLASSIFY, {"signature_name": "words", "examples": [{}]}, "Expected one input Tensor."),
    (CLASSIFY, {"signature_name": "regress", "examples": [{}]}, "Expected classification signature outputs to contain"),
    (REGRESS, {"signature_name": "classify", "examples": [{}]}, "Expected one output Tensor."),
    (REGRESS, {"signature_name": "scores", "examples": [{}]}, "No regression outputs found in SignatureDef: inputs {"),
    (REGRESS, {"signature_name": "flat", "examples": [{"x": [1.0, 2.0]}]},
     "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"),
    (CLASSIFY, {"signature_name": "classify", "examples": [{"bias": 1}]}, "Feature: x (data type: float) is required"),
])
def test_requests_that_are_refused(ask: Ask, path: str, document: object, error: str) -> None:
    status, answer = ask(path, document)
    assert status == 400
    assert error in answer["error"]
