"""What workers do: one function a stage, JSON in and out, files into the folder it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trt_pipeline import inspection
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, ConversionRequest
from trt_pipeline.benchmarking import interleaved
from trt_pipeline.benchmarking.runner_process import Side
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity import judge, reference
from trt_pipeline.parity.cases import cases
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples.store import Samples

Progress = Callable[[int, int], None]
Json = dict[str, Any]


def inspect(model: str, tags: list[str], folder: str, progress: Progress) -> Json:
    """Contract and operations of the model at ``model``."""
    return inspection.inspect(Path(model), tuple(tags)).model_dump(mode="json")


def convert(backend_name: str, request: Json, contract: Json, folder: str, progress: Progress) -> Json:
    """Convert one candidate into ``folder``; returns its `Artifact`."""
    artifact = backend(backend_name).convert(
        ConversionRequest.model_validate(request), Contract.model_validate(contract), Path(folder))
    return artifact.model_dump(mode="json")


def refer(model: str, contract: Json, signatures: list[str], samples: dict[str, str], padding: dict[str, int],
          batch_size: int, max_batch_size: int, folder: str, progress: Progress) -> Json:
    """Store the original's outputs on all cases in ``folder``; returns their `Reference`."""
    known = Contract.model_validate(contract)
    opened = _open(samples, padding)
    planned = [case for name in signatures
               for case in cases(known.signatures[name], opened[name], batch_size, max_batch_size)]
    made = reference.make(Path(model), known, planned, opened, Path(folder), progress)
    return made.model_dump(mode="json")


def measure_noise(model: str, contract: Json, reference_index: Json, reference_folder: str, samples: dict[str, str],
                  padding: dict[str, int], folder: str, progress: Progress) -> Json:
    """Noise floors of the original: signature -> output -> `NoiseFloor`."""
    floors = reference.measure_noise(Path(model), Contract.model_validate(contract),
                                     Reference.model_validate(reference_index), _open(samples, padding),
                                     Path(reference_folder), progress)
    return {signature: {name: floor.model_dump(mode="json") for name, floor in by_name.items()}
            for signature, by_name in floors.items()}


def validate(backend_name: str, precision: str, artifact: Json, artifact_folder: str, contract: Json,
             reference_index: Json, reference_folder: str, samples: dict[str, str], padding: dict[str, int],
             gate: Json, folder: str, progress: Progress) -> Json:
    """Judge one candidate; returns its `Verdict`."""
    runner = backend(backend_name).load(Artifact.model_validate(artifact), Path(artifact_folder),
                                        Contract.model_validate(contract))
    with runner:
        verdict = judge.judge(runner, Reference.model_validate(reference_index), Path(reference_folder),
                              _open(samples, padding), Gate.model_validate(gate), precision, progress)
    return verdict.model_dump(mode="json")


def benchmark(original: Json, candidate: Json, signatures: list[str], batch_sizes: list[int], duration_s: float,
              folder: str, progress: Progress) -> Json:
    """Time one candidate against the original; returns a `BenchmarkResult`."""
    sides = Side.model_validate(original), Side.model_validate(candidate)
    contracts = {name: sides[0].contract.signatures[name] for name in signatures}
    result = interleaved.compare(*sides, contracts, tuple(batch_sizes), duration_s, progress)
    return result.model_dump(mode="json")


def _open(samples: dict[str, str], padding: dict[str, int]) -> dict[str, Samples]:
    return {name: Samples(Path(folder), padding) for name, folder in samples.items()}
