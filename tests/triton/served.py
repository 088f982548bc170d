"""What Triton answers: judged by the pipeline, against the original; and asked for by tritonclient itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.triton.triton_server import Triton
from trt_pipeline import api
from trt_pipeline.backends.base import Array
from trt_pipeline.client import connect
from trt_pipeline.client.protocol import Spec
from trt_pipeline.config import loader
from trt_pipeline.config.schema import Config
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity import reference as references
from trt_pipeline.parity.cases import cases
from trt_pipeline.parity.judge import Verdict, judge
from trt_pipeline.parity.reference import Reference
from trt_pipeline.samples.store import Samples
from trt_pipeline.served import endpoint
from trt_pipeline.served.runner import ServedRunner
from trt_pipeline.stages import plan

DATA_TYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "string": "BYTES"}


def client(server: Triton, protocol: str) -> Any:
    """tritonclient's own client, of ``protocol`` "grpc" or "http"."""
    module = importlib.import_module(f"tritonclient.{protocol}")
    return module.InferenceServerClient(getattr(server, protocol))


def ask(connected: Any, model: str, inputs: Mapping[str, tuple[Array, str]], version: str = "") -> dict[str, Array]:
    """All outputs by name; inputs are arrays and the contract's name of their dtype."""
    module = importlib.import_module(type(connected).__module__.rpartition(".")[0])
    given = []
    for name, (value, dtype) in inputs.items():
        given.append(module.InferInput(name, value.shape, DATA_TYPES[dtype]))
        given[-1].set_data_from_numpy(np.ascontiguousarray(value))
    answered = connected.infer(model, given, model_version=version)
    described = answered.get_response()
    outputs = described["outputs"] if isinstance(described, dict) else described.outputs
    return {name: answered.as_numpy(name)
            for name in (one["name"] if isinstance(one, dict) else one.name for one in outputs)}


@dataclass(frozen=True)
class Original:
    """A configuration's model with its samples and what it says to them."""

    config: Config
    contract: Contract
    signatures: tuple[str, ...]
    samples: dict[str, Samples]
    reference: Reference
    answers: Path

    def judge(self, server: Triton, protocol: str, precision: str) -> Verdict:
        """The verdict of the configuration's gate on what ``server`` answers over ``protocol``, grpc or http."""
        address = f"triton+{protocol}://{getattr(server, protocol)}"
        with connect(address) as connected:
            found = endpoint.find(connected, Spec(self.config.name), self.contract, self.signatures, self.signatures)
        with ServedRunner(self.contract, address, found, timeout=60) as runner:
            return judge(runner, self.reference, self.answers, self.samples, self.config.gate, precision)


def original(name: str, folder: Path, batch_size: int, signatures: tuple[str, ...] | None = None) -> Original:
    """Run the original of configuration ``name`` on its validation samples and their corners.

    Its noise is not measured, so that floats without a gate have the narrowest one there is.
    """
    config = loader.load(loader.find(name))
    if signatures:
        config = config.model_copy(update={"signatures": signatures})
    contract = api.inspect(config.model).contract
    chosen = plan.signatures(config, contract)
    sets = plan.open_samples(config, contract, chosen, "validation", folder / "samples")
    assert sets
    samples = {signature: Samples(path, config.padding) for signature, path in sets.folders.items()}
    planned = [case for signature in chosen for case in cases(
        contract.signatures[signature], samples[signature], batch_size, config.max_batch_size)]
    made = references.make(config.model, contract, planned, samples, folder / "answers", lambda done, total: None)
    return Original(config, contract, chosen, samples, made, folder / "answers")
