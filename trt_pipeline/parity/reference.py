"""The original's outputs on all cases, kept on disk, with its noise floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity import noise
from trt_pipeline.parity.cases import REAL_SAMPLES, Case
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
# Noise is measured on the corners and on this many batches of real samples.
_NOISE_BATCHES = 4


class OutputReference(Frozen):
    """What is known of one output of the original."""

    dtype: str
    scale: float
    """Largest finite magnitude over all cases; 0 for outputs that are not numbers."""
    noise: NoiseFloor = NoiseFloor()


class Reference(Frozen):
    """Index of the stored outputs: case number ``i`` of ``cases`` lies in ``<i>/`` of the folder."""

    cases: tuple[Case, ...]
    outputs: dict[str, dict[str, OutputReference]]
    """Signature -> output -> what is known of it."""


def make(model: Path, contract: Contract, cases: list[Case], samples: dict[str, Samples], folder: Path,
         progress: Progress) -> Reference:
    """Run the original on every case and store what it said under ``folder``."""
    runner = SavedModelRunner(contract, model)
    with runner:
        scales: dict[str, dict[str, float]] = {}
        dtypes: dict[str, dict[str, str]] = {}
        for number, case in enumerate(cases):
            outputs = runner.infer(case.signature, samples[case.signature].take(case.rows, case.width))
            store.write(outputs, folder / str(number))
            for name, value in outputs.items():
                by_name = scales.setdefault(case.signature, {})
                by_name[name] = max(by_name.get(name, 0.0), _magnitude(value))
                dtypes.setdefault(case.signature, {})[name] = contract.signatures[case.signature].outputs[name].dtype
            progress(number + 1, len(cases))
        floors = {signature: _noise(model, contract, signature, runner, cases, samples, folder, scales[signature])
                  for signature in scales}
    return Reference(cases=tuple(cases), outputs={
        signature: {name: OutputReference(dtype=dtypes[signature][name], scale=scale,
                                          noise=floors[signature].get(name, NoiseFloor()))
                    for name, scale in by_name.items()} for signature, by_name in scales.items()})


def outputs(folder: Path, number: int) -> dict[str, Array]:
    """The stored outputs of case ``number``."""
    return store.read(folder / str(number))


def _noise(model: Path, contract: Contract, signature: str, runner: SavedModelRunner, cases: list[Case],
           samples: dict[str, Samples], folder: Path, scales: dict[str, float]) -> dict[str, NoiseFloor]:
    chosen = list(_for_noise(signature, cases))
    pairs = [(samples[signature].take(case.rows, case.width), outputs(folder, number)) for number, case in chosen]
    return noise.measure(model, contract.tags, signature, runner.function(signature), pairs, scales,
                         lambda feeds: runner.infer(signature, feeds))


def _for_noise(signature: str, cases: list[Case]) -> Iterator[tuple[int, Case]]:
    real = 0
    for number, case in enumerate(cases):
        if case.signature != signature:
            continue
        real += case.group == REAL_SAMPLES
        if case.group != REAL_SAMPLES or real <= _NOISE_BATCHES:
            yield number, case


def _magnitude(value: Array) -> float:
    if value.dtype.kind not in "fiu" or not value.size:
        return 0.0
    finite = np.abs(value[np.isfinite(value)].astype(np.float64))
    return float(finite.max()) if finite.size else 0.0
