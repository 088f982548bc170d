"""A published model with every kind of signature, and a real server in front of it."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.serve import Addresses, running

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``serving/``: toy with an unreadable version 2 and a good version 10, broken, and folders that are no models."""
    folder = tmp_path_factory.mktemp("work") / "serving"
    _save_toy(folder / "toy" / "10")
    for damaged in ("toy/2", "broken/1"):
        (folder / damaged).mkdir(parents=True)
        (folder / damaged / "saved_model.pb").write_bytes(b"not a protobuf")
    for no_model in ("triton/toy/1", ".staging-1/1", "empty", "named/latest", "incomplete/1"):
        (folder / no_model).mkdir(parents=True)
    for skipped in ("triton/1", ".staging-1/1", "named/latest"):
        (folder / skipped).mkdir(exist_ok=True)
        (folder / skipped / "saved_model.pb").write_bytes(b"")
    return folder


def _save_toy(folder: Path) -> None:  # noqa: C901  (a function for each signature)
    import tensorflow as tf

    class Toy(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def several(self, x: Any) -> Any:
            return {"total": tf.reduce_sum(x, axis=1), "double": 2.0 * x}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text"),
                                      tf.TensorSpec([None], tf.int64, "number")])
        def words(self, text: Any, number: Any) -> Any:
            return {"shout": tf.strings.upper(text), "raw_bytes": text, "next": number + 1}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def third(self, x: Any) -> Any:
            return {"y": x / 3.0}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def echo(self, text: Any) -> Any:
            return {"text": text}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
        def pairs(self, x: Any) -> Any:
            return {"y": tf.reshape(x, [-1, 2])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.uint8, "small"), tf.TensorSpec([], tf.bool, "flag"),
                                      tf.TensorSpec([], tf.float64, "fine"), tf.TensorSpec([None], tf.int64, "large")])
        def kinds(self, small: Any, flag: Any, fine: Any, large: Any) -> Any:
            return {"small": small, "flag": flag, "fine": fine, "large": large}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, "x")])
        def half(self, x: Any) -> Any:
            return {"y": x}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def sum(self, x: Any) -> Any:
            return {"y": tf.reduce_sum(x)}

        def read(self, examples: Any) -> Any:
            features = {"x": tf.io.FixedLenFeature([2], tf.float32), "bias": tf.io.FixedLenFeature([], tf.int64, 0),
                        "name": tf.io.FixedLenFeature([], tf.string, "c")}
            return tf.io.parse_example(examples, features)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def classify(self, inputs: Any) -> Any:
            read = self.read(inputs)
            return {"scores": read["x"] + tf.cast(read["bias"], tf.float32)[:, None],
                    "classes": tf.stack([read["name"] + "0", read["name"] + "1"], axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def scores(self, inputs: Any) -> Any:
            return {"scores": self.read(inputs)["x"]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def regress(self, inputs: Any) -> Any:
            return {"outputs": tf.reduce_sum(self.read(inputs)["x"], axis=1, keepdims=True)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def flat(self, inputs: Any) -> Any:
            return {"outputs": self.read(inputs)["x"]}

    toy = Toy()
    tf.saved_model.save(toy, str(folder), signatures={
        "serving_default": toy.several, "words": toy.words, "third": toy.third, "echo": toy.echo, "pairs": toy.pairs,
        "kinds": toy.kinds, "half": toy.half, "sum": toy.sum, "classify": toy.classify, "scores": toy.scores,
        "regress": toy.regress, "flat": toy.flat})


@pytest.fixture(scope="session")
def addresses(serving: Path) -> Iterator[Addresses]:
    """Where a server of toy answers."""
    with running({"toy": serving / "toy"}) as found:
        yield found


@pytest.fixture(scope="session")
def port(addresses: Addresses) -> int:
    """The port of its REST API."""
    return int(addresses.rest.rpartition(":")[2])


@pytest.fixture
def raw(port: int) -> Callable[..., tuple[int, bytes]]:
    """Send a request; get its status and the bytes of its body."""
    def send(method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            assert response.headers["Content-Type"] == "application/json"
            return response.status, response.read()
        finally:
            connection.close()
    return send


@pytest.fixture
def ask(raw: Callable[..., tuple[int, bytes]]) -> Ask:
    """GET a path, or POST a document to it; get its status and JSON."""
    def send(path: str, document: object = None) -> tuple[int, Any]:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, answer = raw("GET", path) if document is None else raw("POST", path, body)
        return status, json.loads(answer)
    return send
