"""The original's outputs on all cases, kept on disk, and its noise floor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity import noise
from trt_pipeline.parity.cases import REAL_SAMPLES, Case
from trt_pipeline.parity.compare import magnitude
from trt_pipeline.parity.noise import NoiseFloor
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
# Noise is measured on the corners and on this many batches of real samples.
_NOISE_BATCHES = 2


class OutputReference(Frozen):
    """What is known of one output of the original."""

    dtype: str
    scale: float
    """Largest magnitude (`compare.magnitude`) over all cases; 0 for outputs that are not numbers."""
    noise: NoiseFloor = NoiseFloor()


class Reference(Frozen):
    """Index of the stored outputs: case number ``i`` of ``cases`` lies in ``<i>/`` of the folder."""

    cases: tuple[Case, ...]
    outputs: dict[str, dict[str, OutputReference]]
    """Signature -> output -> what is known of it."""


    def with_noise(self, floors: dict[str, dict[str, Any]]) -> Reference:
        """The same reference with its noise floors filled in: `NoiseFloor` or its JSON, by signature and output."""
        return self.model_copy(update={"outputs": {
            signature: {name: known.model_copy(update={
                "noise": NoiseFloor.model_validate(floors.get(signature, {}).get(name, NoiseFloor()))})
                        for name, known in by_name.items()} for signature, by_name in self.outputs.items()}})


def make(model: Path, contract: Contract, cases: list[Case], samples: dict[str, Samples], folder: Path,
         progress: Progress) -> Reference:
    """Run the original on every case and store what it said under ``folder``."""
    scales: dict[str, dict[str, float]] = {}
    with SavedModelRunner(contract, model) as runner:
        for number, case in enumerate(cases):
            outputs = runner.infer(case.signature, samples[case.signature].take(case.rows, case.width))
            store.write(outputs, folder / str(number))
            for name, value in outputs.items():
                by_name = scales.setdefault(case.signature, {})
                by_name[name] = max(by_name.get(name, 0.0), magnitude(value))
            progress(number + 1, len(cases))
    return Reference(cases=tuple(cases), outputs={
        signature: {name: OutputReference(dtype=contract.signatures[signature].outputs[name].dtype, scale=scale)
                    for name, scale in by_name.items()} for signature, by_name in scales.items()})


def outputs(folder: Path, number: int) -> dict[str, Array]:
    """The stored outputs of case ``number``."""
    return store.read(folder / str(number))


def measure_noise(model: Path, contract: Contract, reference: Reference, samples: dict[str, Samples], folder: Path,
                  progress: Progress) -> dict[str, dict[str, NoiseFloor]]:
    """Noise floor of every float output, from the corners and a few batches of real samples."""
    floors = {}
    runner = SavedModelRunner(contract, model)
    with runner:
        for done, (signature, known) in enumerate(reference.outputs.items()):
            pairs = [(samples[signature].take(case.rows, case.width), outputs(folder, number))
                     for number, case in _for_noise(signature, reference.cases)]
            floors[signature] = noise.measure(
                model, contract.tags, signature, runner.function(signature), pairs,
                {name: output.scale for name, output in known.items()},
                functools.partial(runner.infer, signature))
            progress(done + 1, len(reference.outputs))
    return floors


def _for_noise(signature: str, cases: tuple[Case, ...]) -> Iterator[tuple[int, Case]]:
    real = 0
    for number, case in enumerate(cases):
        if case.signature != signature:
            continue
        real += case.group == REAL_SAMPLES
        if case.group != REAL_SAMPLES or real <= _NOISE_BATCHES:
            yield number, case
