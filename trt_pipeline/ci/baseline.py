"""`baseline.json`: what earlier runs of a model found, for later ones to be compared with.

It holds up to ten runs of each model under the same conditions. Two runs of the same thing differ by more than the
interval of either says: a process that starts again has its memory elsewhere, and a neighbour that was busy is not.
Several runs show by how much.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from trt_pipeline import files
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.errors import InputError, OutputError
from trt_pipeline.frozen import Frozen
from trt_pipeline.results import CandidateResult, Status
from trt_pipeline.run_result import RunResult

MOST_RUNS = 10
# What timings depend on beside the candidate. What else an environment holds are versions of libraries, whose effect
# is for the comparison to find.
_CONDITIONS = ("machine", "cpu", "cores", "gpu", "OMP_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "CUDA_VISIBLE_DEVICES")


class Timing(Frozen):
    """One signature at one batch size: the original over the candidate, by metric. The machine's drift cancels."""

    signature: str
    batch_size: int
    ratios: dict[str, Ratio]


class Measured(Frozen):
    """What is kept of one candidate."""

    status: Status
    timings: tuple[Timing, ...] = ()
    parity: float | None = None
    """`parity.judge.Verdict.error`; None too where that is not finite, which JSON cannot say."""
    estimated: bool = False
    """Whether something else was judged in its place."""
    size_bytes: int = 0


class BaselineRun(Frozen):
    """One run, and what it was measured on and with."""

    run_id: str
    model_digest: str
    samples_digests: dict[str, str]
    conditions: dict[str, str]
    versions: dict[str, str]
    candidates: dict[str, Measured]


class Baseline(Frozen):
    """The file: runs by model, oldest first."""

    format: Literal[1] = 1
    models: dict[str, tuple[BaselineRun, ...]] = {}

    def comparable(self, run: BaselineRun, name: str) -> tuple[BaselineRun, ...]:
        """The runs of model ``name`` under the conditions of ``run``, oldest first."""
        return tuple(one for one in self.models.get(name, ()) if one.conditions == run.conditions)

    def with_run(self, run: BaselineRun, name: str) -> Baseline:
        """This with ``run``, and without the oldest beyond `MOST_RUNS` under its conditions.

        A run that took all its timings from an earlier one, held already, says nothing new and is left out.
        """
        before = self.models.get(name, ())
        if any(one.candidates == run.candidates and one.conditions == run.conditions for one in before):
            return self
        alike = self.comparable(run, name)
        dropped = {one.run_id for one in alike[:max(0, len(alike) + 1 - MOST_RUNS)]}
        kept = tuple(one for one in before if one.conditions != run.conditions or one.run_id not in dropped)
        return self.model_copy(update={"models": self.models | {name: (*kept, run)}})


def run_of(result: RunResult) -> BaselineRun:
    """What a baseline keeps of ``result``."""
    threads = (result.config.get("benchmark") or {}).get("threads")
    conditions = {key: result.environment[key] for key in _CONDITIONS if result.environment.get(key)}
    return BaselineRun(
        run_id=result.run_id, model_digest=result.model_digest, samples_digests=result.samples_digests,
        conditions=conditions | ({"threads": str(threads)} if threads else {}),
        versions={key: value for key, value in result.environment.items() if key not in _CONDITIONS},
        candidates={one.name: _measured(one) for one in result.candidates})


def _measured(candidate: CandidateResult) -> Measured:
    timings = tuple(Timing(signature=one.signature, batch_size=one.batch_size, ratios=one.ratios)
                    for one in candidate.benchmark.batches) if candidate.benchmark else ()
    verdict = candidate.verdict
    error = verdict.error if verdict else None
    return Measured(status=candidate.status, timings=timings, size_bytes=candidate.size_bytes,
                    parity=error if error is not None and math.isfinite(error) else None,
                    estimated=bool(verdict and verdict.estimate))


def read(path: Path, *, absent_ok: bool = False) -> Baseline:
    """The baseline at ``path``; an empty one where there is none and ``absent_ok``.

    Raises:
        InputError: it is not there, cannot be read or is damaged.
    """
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if absent_ok:
            return Baseline()
        raise InputError(f"there is no baseline {path}: begin one with --write-baseline") from None
    except OSError as error:
        raise InputError(f"the baseline {path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise InputError(f"the baseline {path} is damaged, or of another version: restore it, or remove it and begin "
                         "anew with --write-baseline") from None


def write(path: Path, baseline: Baseline) -> None:
    """Write ``baseline`` to ``path``, whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, f"{baseline.model_dump_json(indent=1)}\n".encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --baseline") from None
