"""A SavedModel with strings and tables as it is published for Triton, in the real one: a model a signature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.triton.served import Original, original
from tests.triton.triton_server import Triton, serving
from trt_pipeline.backends.base import Artifact
from trt_pipeline.publish import triton

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """Images and tf.Examples; a third signature would be a third TensorFlow in the server."""
    return original("demo", tmp_path_factory.mktemp("demo"), 16, ("serving_default", "classify"))


@pytest.fixture(scope="module")
def repository(demo: Original, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the original itself, as it is published where nothing beats it."""
    folder = tmp_path_factory.mktemp("published")
    made = Artifact(kind="savedmodel", files=dict.fromkeys(demo.signatures, demo.config.model.name))
    warm_up = {name: [demo.samples[name].take(range(4))] for name in demo.signatures}
    assert triton.publish(
        made, demo.config.model.parent, {name: demo.contract.signatures[name] for name in demo.signatures},
        folder / "triton", "demo", demo.config.max_batch_size, {"digest": "a"}, None, requests=warm_up) == (1, True)
    return folder / "triton"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Triton]:
    with serving(repository, "--model-control-mode=explicit", "--load-model=*") as server:
        yield server


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_every_signature_says_what_the_original_says(protocol: str, demo: Original, server: Triton) -> None:
    verdict = demo.judge(server, protocol, "fp32")
    assert verdict.passed, verdict.reason
    assert {(one.signature, one.output) for one in verdict.outputs} == {
        ("serving_default", "logits"), ("serving_default", "probabilities"), ("classify", "classes"),
        ("classify", "scores")}
