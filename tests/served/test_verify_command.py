"""`trt-pipeline verify`, and what it finds out before anything is computed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from tests.client.toy import save_toy
from tests.served.conftest import SIGNATURES, Toy
from trt_pipeline import cli, client
from trt_pipeline.client.protocol import Spec
from trt_pipeline.errors import InputError
from trt_pipeline.model.contract import TensorContract
from trt_pipeline.publish import versions
from trt_pipeline.serve.server import Addresses
from trt_pipeline.served import endpoint
from trt_pipeline.served.runner import as_original, as_served

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command that ends with ``status``; returns its stdout and its one line of error."""

    def call(*arguments: object, status: int) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["trt-pipeline", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capfd.readouterr()
        assert ended.value.code == status, captured.err
        error, = (line for line in captured.err.splitlines() if line.startswith("trt-pipeline: error: "))
        return captured.out, error

    return call


@pytest.fixture
def config(toy: Toy, tmp_path: Path) -> Path:
    """The toy's, of an original that whispers where what is served shouts."""
    save_toy(tmp_path / "original", capitals=False)
    values = toy.config.model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(values | {"model": str(tmp_path / "original")}))
    return file


@pytest.mark.slow
def test_what_passes_and_what_does_not(run: Run, config: Path, ours: Addresses, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    told, error = run(config, "--served", f"grpc://{ours.grpc}", "--junit", junit, "--precision", "fp16",
                      "--requests", 5, status=1)
    assert told.splitlines()[:2] == [
        f"grpc://{ours.grpc}: TensorFlow Serving's gRPC API, which tells no version", "bounds of fp16: it was given"]
    verdicts = dict(line.split(": ", 1) for line in told.splitlines()[2:6])
    assert {name: text.split()[0] for name, text in verdicts.items()} == {
        "serving_default.third": "passes", "serving_default.total": "passes", "words.next": "passes",
        "words.shout": "FAILS"}
    assert "words: toy version 1: first request" in told
    assert "answers is rejected: words.shout: " in error
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")


def test_no_server(run: Run, config: Path) -> None:
    assert "no server answers (" in run(config, "--served", "grpc://127.0.0.1:1", status=3)[1]


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["--model", "other"], "(NOT_FOUND)"), (["--version", "7"], "(NOT_FOUND)"),
    (["--signature", "wrods"], "did you mean 'words'?")])
def test_mistakes(arguments: list[str], complaint: str, run: Run, config: Path, ours: Addresses) -> None:
    assert complaint in run(config, "--served", f"grpc://{ours.grpc}", *arguments, status=2)[1]


def test_what_has_other_inputs_is_another_model(toy: Toy, ours: Addresses) -> None:
    words = toy.contract.signatures["words"]
    whole = words.model_copy(update={"inputs": {"sentence": words.inputs["text"]}})
    contract = toy.contract.model_copy(update={"signatures": toy.contract.signatures | {"words": whole}})
    with client.connect(ours.rest) as server, pytest.raises(InputError, match="only the numeric core of this one"):
        endpoint.find(server, Spec("toy"), contract, ["words"], SIGNATURES)


@pytest.mark.parametrize(("address", "folder"), [
    ("grpc://localhost", "other/3"), ("triton+grpc://localhost", "triton/other/3")])
@pytest.mark.parametrize(("candidate", "precision"), [("onnxruntime/int8", "int8"), ("original", "native")])
def test_the_bounds_are_those_of_what_was_published(
        candidate: str, precision: str, address: str, folder: str, toy: Toy, tmp_path: Path) -> None:
    config = toy.config.model_copy(update={"serving": tmp_path})
    served = {"words": endpoint.Endpoint(model="other", version=3, signature=None,
                                         contract=toy.contract.signatures["words"])}
    assert endpoint.published_precision(config, address, served)[0] == "native"
    manifest = tmp_path / folder / versions.MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"candidate": candidate}))
    assert endpoint.published_precision(config, address, served) == (precision, f"{manifest} says {candidate}")


def test_an_engine_of_int32_is_fed_and_read_as_the_original() -> None:
    """And what has one value a row is a column in Triton."""
    whole, narrow = TensorContract(dtype="int64", shape=(None,)), TensorContract(dtype="int32", shape=(None, 1))
    fed = as_served("x", np.array([1, 2**31 - 1]), narrow)
    assert (fed.dtype, fed.shape) == (np.int32, (2, 1))
    read = as_original(fed, whole)
    assert (read.dtype, read.tolist()) == (np.int64, [1, 2**31 - 1])
    with pytest.raises(InputError, match="input 'x' has numbers that do not fit into the int32"):
        as_served("x", np.array([2**31]), narrow)
    column = TensorContract(dtype="float64", shape=(None, 1))
    assert as_original(as_served("x", np.zeros([2, 1]), column), column).shape == (2, 1)
