"""Finish every candidate of a run that waits for a GPU, on the machine that has one: a run of its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from trt_pipeline import figures, frozen
from trt_pipeline.ci import gate as gates
from trt_pipeline.ci import requirements
from trt_pipeline.ci.gate import Checks
from trt_pipeline.ci.requirements import Requirement
from trt_pipeline.config.schema import Config
from trt_pipeline.environment import environment
from trt_pipeline.errors import MissingError, OutputError, PipelineError
from trt_pipeline.report import write_html
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages import plan
from trt_pipeline.stages.observer import Observer
from trt_pipeline.stages.run_folder import folder_name

REPORT = "report.json"
_CANDIDATES = "candidates"
Finalize = Callable[[Path, Path], CandidateResult]
"""Finishes the candidate in the first folder into the second, new one, as `api.finalize` does."""


def find(path: Path) -> Path | None:
    """The run at ``path``, or the newest in it, as in ``artifacts/NAME``; None where there is none."""
    if (path / REPORT).is_file():
        return path
    runs = sorted(file.parent for file in path.glob(f"*/{REPORT}"))
    return runs[-1] if runs else None


def read(folder: Path) -> RunResult:
    """The run in ``folder``.

    Raises:
        InputError: another version wrote it.
    """
    return frozen.read(RunResult, folder / REPORT, absent=f"{folder} is no finished run: it has no {REPORT}",
                       outdated="run optimize again")


def original(found: RunResult) -> Path | None:
    """The model that ``found`` was a run of, where it is here as it was then."""
    config = Config.model_validate(found.config)
    try:
        return config.model if plan.check_model(config) == found.model_digest else None
    except PipelineError:
        return None


def finish(folder: Path, output: Path, finalize: Finalize, observer: Observer, asked: Checks | None = None
           ) -> RunResult:
    """Finish what waits in the run at ``folder``; write ``output``, a run's folder like it, whole or not at all.

    Returns:
        The original, as that run had it, and the candidates that waited, if any, as this machine judged and timed
        them. Nothing is published.

    Raises:
        InputError: ``output`` exists, or another version wrote that run.
        MissingError: this machine lacks what every one of them needs.
    """
    started, found = time.monotonic(), read(folder)
    waiting = [one for one in found.candidates if one.status == "pending-gpu"]
    if output.exists():
        raise OutputError(f"{output} exists already: name a new folder")
    if asked:
        requirements.check_names(asked.requirements, [one.name for one in found.candidates])
    output.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        (staged / _CANDIDATES).mkdir()
        results = _each(waiting, folder, staged, finalize, observer)
        judged = found.model_copy(update={
            "folder": str(output), "environment": environment(), "publications": (), "gate": None,
            "candidates": (found.candidate("original"), *results), "seconds": time.monotonic() - started})
        if asked:
            mine = tuple(one for one in asked.requirements if _is_answered_here(one, judged))
            judged = judged.model_copy(update={
                "gate": gates.judge(asked.model_copy(update={"requirements": mine}), judged)})
        (staged / REPORT).write_text(json.dumps(judged.model_dump(mode="json"), indent=2) + "\n")
        write_html(judged, staged / "report.html")
        os.rename(staged, output)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return judged


def _is_answered_here(asked: Requirement, judged: RunResult) -> bool:
    """Whether it is for this machine to say. The rest was answered where the run was judged: what is asked of
    candidates that did not wait, and of metrics, which finishing computes none of."""
    if asked.bound and asked.bound.figure.startswith(figures.METRIC):
        return False
    best = judged.best().name
    return best != figures.ORIGINAL if asked.candidate == requirements.CHOSEN else asked.candidate in {
        one.name for one in judged.candidates}


def _each(waiting: list[CandidateResult], folder: Path, staged: Path, finalize: Finalize, observer: Observer
          ) -> list[CandidateResult]:
    """What became of each; one that fails is no reason not to try the next."""
    results: list[CandidateResult] = []
    lacking: list[MissingError] = []
    for one in waiting:
        observer.stage(f"finalize {one.name}")
        part = folder_name(one.name)
        try:
            done = finalize(folder / _CANDIDATES / part, staged / _CANDIDATES / part)
            done = done.model_copy(update={"name": one.name, "precision_floor": one.precision_floor,
                                           "islands": one.islands})
        except MissingError as error:
            lacking.append(error)
            done = one.model_copy(update={"reason": str(error)})
        except PipelineError as error:
            done = one.model_copy(update={"status": "failed", "reason": f"finalize: {error}"})
        results.append(done)
        observer.candidate(done)
    if lacking and len(lacking) == len(waiting):
        raise lacking[0]
    return results
