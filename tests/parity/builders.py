"""A model in memory: hand-written reference outputs, and a runner that answers from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trt_pipeline.backends.base import Runner
from trt_pipeline.model.contract import Contract, SignatureContract, TensorContract
from trt_pipeline.parity.cases import cases
from trt_pipeline.parity.judge import Verdict, judge
from trt_pipeline.parity.reference import OutputReference, Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

Model = Callable[[np.ndarray], dict[str, np.ndarray]]


def contract(outputs: Mapping[str, np.ndarray]) -> Contract:
    described = {name: TensorContract(dtype="string" if value.dtype.kind == "O" else value.dtype.name,
                                      shape=(None, *value.shape[1:])) for name, value in outputs.items()}
    signature = SignatureContract(name="serve", method_name="tensorflow/serving/predict", outputs=described,
                                  inputs={"x": TensorContract(dtype="float32", shape=(None, 3))})
    return Contract(tags=("serve",), signatures={"serve": signature}, assets={}, extra_assets={}, tables=0,
                    variable_bytes=0, tensorflow_version="2.14.1")


class FunctionRunner(Runner):
    """Answers every signature with ``function(x)``."""

    def __init__(self, promised: Contract, function: Model) -> None:
        super().__init__(promised)
        self.function = function

    def activate_impl(self) -> None:
        """Nothing to load."""

    def infer_impl(self, signature: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return self.function(feeds["x"])


class World:
    """Ten samples, and what ``original`` says of them, on disk."""

    def __init__(self, folder: Path, original: Model, max_batch_size: int = 4) -> None:
        self.x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
        store.write({"x": self.x}, folder / "samples")
        self.samples = Samples(folder / "samples")
        self.folder = folder / "reference"
        self.contract = contract(original(self.x))
        planned = cases(self.contract.signatures["serve"], self.samples, batch_size=5, max_batch_size=max_batch_size)
        for number, case in enumerate(planned):
            store.write(original(self.x[list(case.rows)]), self.folder / str(number))
        known = {name: OutputReference(dtype=self.contract.signatures["serve"].outputs[name].dtype,
                                       scale=float(np.abs(value).max()) if value.dtype.kind in "fiu" else 0.0)
                 for name, value in ((n, store.without_bfloat16(v)) for n, v in original(self.x).items())}
        self.reference = Reference(cases=tuple(planned), outputs={"serve": known})

    def judge(self, candidate: Model, gate: Gate | None = None, precision: str = "fp32") -> Verdict:
        with FunctionRunner(self.contract, candidate) as runner:
            return judge(runner, self.reference, self.folder, {"serve": self.samples}, gate or Gate(), precision)
