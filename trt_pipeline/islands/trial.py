"""Find islands by converting and running the candidate itself, where emulation has not done.

Emulation is exact enough for most models. Where a hair's breadth decides, as between two beams of a
translator, only the candidate itself, on the samples that it will be judged on, can tell.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from trt_pipeline.backends.base import Artifact, Backend, ConversionRequest, Runner
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.errors import Unsupported
from trt_pipeline.islands import gate as gates
from trt_pipeline.islands.gate import Judged, SearchGate
from trt_pipeline.islands.islands import Islands, SignatureIslands
from trt_pipeline.islands.search import Counting, search
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples.store import Samples

Progress = Callable[[int, int], None]


def find(backend: Backend, request: ConversionRequest, contract: Contract, found: Islands,
         samples: Mapping[str, Samples], gate: Gate, floors: Mapping[str, Mapping[str, float]], *, budget: int,
         scratch: Path, progress: Progress = lambda done, total: None) -> Islands:
    """The smallest sets of nodes with which the candidate itself meets its gate, signature by signature.

    Args:
        backend: one of its own, whose ``scratch`` this sets.
        request: how the candidate is converted.
        found: what the emulation came to; its ranking is gone by.
        samples: by signature, of validation.
        floors: signature -> output -> the original's own noise.
        budget: trials of each signature.
        scratch: a folder that may be filled.
    """
    backend.scratch = scratch / "kept"
    counting = Counting(progress, budget * len(found.signatures))
    with SavedModelRunner(contract, request.model) as original:
        gates_of = {name: SearchGate(
            contract.signature(name), gate, request.precision, floors.get(name, {}),
            gates.batches(contract.signature(name), samples[name], max(len(samples[name]), 1)),
            functools.partial(original.infer, name)) for name in found.signatures}

    def judged(name: str, raised: frozenset[str]) -> Judged:
        counting.step()
        if len(raised) == len(found.signatures[name].order):
            return Judged(passed=True, distance=0.0)  # nothing of it is left in its precision
        folder = scratch / "trial"
        tried = request.model_copy(update={"signatures": (name,), "raised": {name: tuple(sorted(raised))}})
        try:
            artifact = backend.convert(tried, contract, folder)
            with _runner(backend, artifact, folder, contract) as runner:
                return gates_of[name].judge_raised(functools.partial(runner.infer, name), raised)
        except Unsupported:  # nothing that is left can be in this precision
            return Judged(passed=False, distance=gates.FARTHEST)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return found.model_copy(update={"signatures": {
        name: SignatureIslands.of_search(search(one.order, functools.partial(judged, name), budget), one.order,
                                         tried=True)
        for name, one in found.signatures.items()}})


def _runner(backend: Backend, artifact: Artifact, folder: Path, contract: Contract) -> Runner:
    """The candidate, or its own file run by what there is here."""
    waiting = backend.stand_in(artifact, folder, contract, "estimate") if backend.why_pending(artifact) else None
    return waiting or backend.load(artifact, folder, contract)
