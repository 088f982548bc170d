"""Judge a candidate that cannot run on this machine, by what can stand in for it.

Two questions that a GPU would answer together are answered apart: is the rewritten graph still the
original (float32 arithmetic, so it must agree as any fp32 candidate does), and what does the precision
do to it (its arithmetic emulated). The second is an estimate and is called one. Where the precision is
in the graph itself, so that float32 cannot be had of it, the second answers both.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from trt_pipeline.backends.base import Artifact, Backend, Runner, StandIn
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.cases import Case
from trt_pipeline.parity.judge import Estimate, SurgeryVerdict, Verdict, judge
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples.store import Samples
from trt_pipeline.vocabulary import Vocabulary

Progress = Callable[[int, int], None]
Recording = Callable[[Runner], Runner]
_LARGEST_HALF = float(np.finfo(np.float16).max)  # 65504
# What is no larger than half of the smallest number rounds to zero.
_LOST_IN_HALF = float(np.finfo(np.float16).smallest_subnormal) / 2
_EXACT_PRECISION = "fp32"


def _as_it_is(runner: Runner) -> Runner:
    return runner


def judge_stand_ins(backend: Backend, artifact: Artifact, folder: Path, contract: Contract, reference: Reference,
                    reference_folder: Path, samples: dict[str, Samples], gate: Gate, precision: str, pending: str,
                    progress: Progress = lambda done, total: None, *,
                    vocabularies: Mapping[str, Vocabulary] | None = None,
                    recording: Recording = _as_it_is) -> Verdict:
    """The verdict on ``artifact``, from its backend's stand-ins; its ``estimate`` is set.

    Args:
        pending: why the artifact itself cannot run here (`Backend.why_pending`).
        gate: the candidate's; the surgery is held to what it says of fp32.
        vocabularies: see `judge`.
        recording: what the stand-in that shows the precision is run through, if there is one.
    """
    kinds = backend.stand_ins(artifact, precision)
    runs = len(kinds & {"surgery", "estimate"})

    def report(run: int) -> Progress:
        return lambda done, total: progress(run * total + done, runs * total)

    found = None
    if "surgery" in kinds:
        shows_all = "estimate" not in kinds and not artifact.unestimated
        with _stand_in(backend, artifact, folder, contract, "surgery",
                       recording=recording if shows_all else _as_it_is) as runner:
            surgery = judge(runner, reference, reference_folder, samples, gate, _EXACT_PRECISION, report(0),
                            vocabularies)
        found = SurgeryVerdict(passed=surgery.passed, reason=surgery.reason, error=surgery.error)
        if "estimate" not in kinds or not surgery.passed:
            estimate = Estimate(pending=pending, surgery=found, missing=artifact.unestimated)
            return surgery.model_copy(update={"estimate": estimate})
    with _stand_in(backend, artifact, folder, contract, "estimate", recording=recording) as runner:
        verdict = judge(runner, reference, reference_folder, samples, gate, precision, report(runs - 1), vocabularies)
    overflows, underflows = (_hazards(backend, artifact, folder, contract, reference, samples)
                             if "magnitudes" in kinds else ({}, ()))
    estimate = Estimate(pending=pending, surgery=found, overflows=overflows, underflows=underflows)
    return verdict.model_copy(update={"estimate": estimate})


@contextlib.contextmanager
def _stand_in(backend: Backend, artifact: Artifact, folder: Path, contract: Contract, kind: StandIn,
              magnitudes: Path | None = None, recording: Recording = _as_it_is) -> Iterator[Runner]:
    """An active runner of a stand-in, through ``recording``, which is gone afterwards."""
    ready = backend.stand_in(artifact, folder, contract, kind)
    if ready is not None:
        with recording(ready) as runner:
            yield runner
        return
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        target = Path(scratch, "model")
        backend.write_stand_in(artifact, folder, target, kind, magnitudes)
        with recording(SavedModelRunner(contract, target)) as runner:
            yield runner


def _hazards(backend: Backend, artifact: Artifact, folder: Path, contract: Contract, reference: Reference,
             samples: dict[str, Samples]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Tensors that FP16 cannot hold: too large, and so small that nothing is left of them."""
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        file = Path(scratch, "magnitudes.txt")
        with _stand_in(backend, artifact, folder, contract, "magnitudes", file) as runner:
            for case in _one_of_each_group(reference.cases):
                runner.infer(case.signature, samples[case.signature].take(case.rows, case.width))
        found = backend.magnitudes(file)
    large = {name: value for name, value in found.items() if not value <= _LARGEST_HALF}  # NaN too
    overflows = dict(sorted(large.items(), key=lambda item: -math.inf if math.isnan(item[1]) else -item[1]))
    return overflows, tuple(name for name, value in found.items() if 0 < value <= _LOST_IN_HALF)


def _one_of_each_group(cases: tuple[Case, ...]) -> list[Case]:
    """The first case of every corner of every signature: what is large is so in all of a kind."""
    first: dict[tuple[str, str], Case] = {}
    for case in cases:
        first.setdefault((case.signature, case.group), case)
    return list(first.values())
