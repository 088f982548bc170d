"""The toy in our server and in the real Triton, and what the original says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.client.toy import save_toy
from tests.triton.triton_server import Triton
from tests.triton.triton_server import serving as triton_serving
from trt_pipeline.backends.base import Artifact
from trt_pipeline.config.schema import Config
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity import reference
from trt_pipeline.parity.cases import cases
from trt_pipeline.parity.reference import Reference
from trt_pipeline.publish import triton
from trt_pipeline.samples.store import Samples
from trt_pipeline.serve.server import Addresses, running
from trt_pipeline.stages import plan

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIGNATURES = ("serving_default", "words")


@dataclass(frozen=True)
class Toy:
    """The original, its configuration, and its answers as `verify` has them."""

    config: Config
    contract: Contract
    samples: dict[str, Samples]
    reference: Reference
    answers: Path


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    save_toy(folder / "toy/1")
    generator = np.random.default_rng(0)
    np.savez(folder / "pairs.npz", pairs=generator.normal(size=(5, 2)).astype(np.float32))
    np.savez(folder / "words.npz", text=np.array([b"a", b"bc", "é".encode()]), number=np.array([1, -2, 2**40]))
    config = Config.model_validate({
        "name": "toy", "model": str(folder / "toy/1"), "signatures": SIGNATURES, "serving": str(folder / "serving"),
        "max_batch_size": 4,
        "samples": {"validation": {"serving_default": str(folder / "pairs.npz"), "words": str(folder / "words.npz")}}})
    contract = saved_model.read_contract(config.model, config.tags)
    sets = plan.open_samples(config, contract, SIGNATURES, "validation", folder / "samples")
    assert sets
    samples = {name: Samples(stored) for name, stored in sets.folders.items()}
    planned = [case for name in SIGNATURES for case in cases(contract.signatures[name], samples[name], 4, 4)]
    made = reference.make(config.model, contract, planned, samples, folder / "answers", lambda done, total: None)
    return Toy(config, contract, samples, made, folder / "answers")


@pytest.fixture(scope="session")
def ours(toy: Toy) -> Iterator[Addresses]:
    with running({"toy": toy.config.model.parent}) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def in_triton(toy: Toy) -> Iterator[Triton]:
    """Two models, as they are published: ``toy`` and ``toy-words``."""
    published = Artifact(kind="savedmodel", files=dict.fromkeys(SIGNATURES, "1"))
    triton.publish(published, toy.config.model.parent, {name: toy.contract.signatures[name] for name in SIGNATURES},
                   toy.config.serving / "triton", "toy", toy.config.max_batch_size,
                   {"digest": "a", "candidate": "original"}, None)
    with triton_serving(toy.config.serving / "triton") as server:
        yield server


@pytest.fixture(params=["grpc", "http", "triton+grpc", "triton+http"])
def address(request: pytest.FixtureRequest) -> str:
    """Of a server of the toy, in each protocol."""
    if request.param.startswith("triton+"):
        server = request.getfixturevalue("in_triton")
        return f"{request.param}://{getattr(server, request.param.removeprefix('triton+'))}"
    addresses: Addresses = request.getfixturevalue("ours")
    return f"grpc://{addresses.grpc}" if request.param == "grpc" else addresses.rest
