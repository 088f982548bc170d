"""The toy in two versions, served by our own server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.client.toy import save_toy
from trt_pipeline.serve.models_config import All, ModelConfig, ServerConfig
from trt_pipeline.serve.server import Addresses, running

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    folder = tmp_path_factory.mktemp("toy")
    save_toy(folder / "1")
    (folder / "2").symlink_to(folder / "1", target_is_directory=True)
    config = ServerConfig(models=(ModelConfig(name="toy", base_path=folder, policy=All(), labels={"stable": 1}),))
    with running(config) as addresses:
        yield addresses


@pytest.fixture(params=["grpc", "http"])
def address(request: pytest.FixtureRequest, served: Addresses) -> str:
    """Of the server, in each of TensorFlow Serving's protocols."""
    return f"grpc://{served.grpc}" if request.param == "grpc" else served.rest

