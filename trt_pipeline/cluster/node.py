"""What a node does: judge one candidate, with cores of its own and all it needs in a scratch folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from trt_pipeline.cluster import cores
from trt_pipeline.cluster.parcel import Parcel
from trt_pipeline.cluster.stage_store import RemoteStages
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.frozen import Frozen
from trt_pipeline.results import CandidateResult
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.judging import Judging

# Set by Ray to the cores of a task where the user sets nothing; a run without a cluster has it unset.
_SET_BY_RAY = "OMP_NUM_THREADS"
_LONGEST_LOG = 1_000_000


class Log(Frozen):
    """The log of one stage: where the cache of the run has it, or the log itself."""

    stage: str = ""
    entry: str = ""
    text: str = ""


class Judged(Frozen):
    """What became of a candidate."""

    result: CandidateResult
    entry: str = ""
    """Entry of the cache that holds its files; empty where it has none."""
    logs: tuple[Log, ...] = ()


def judge(parcel: Parcel, spec: CandidateSpec, store: Any, cpus: int, threads: str | None) -> Judged:
    """Judge one candidate on this machine.

    Args:
        store: handle of the run's `StageStore`.
        cpus: cores for it alone.
        threads: what OMP_NUM_THREADS is where the run is; None for unset.
    """
    import ray

    os.environ.pop(_SET_BY_RAY, None)
    if threads is not None:
        os.environ[_SET_BY_RAY] = threads
    with cores.claimed(cpus), _scratch() as folder:
        study = parcel.open(folder / "study", ray.get)
        executor = Executor(study.config, study.model_digest, RemoteStages(folder / "stages", store), False,
                            _Told(store, spec.name))
        logs = executor.folder = _Logs()
        judging = Judging(study, executor, lambda: ray.get(store.judged.remote()))
        result, files = judging.judge(spec)
        return Judged(result=result, entry=files.parent.name if files else "", logs=tuple(logs.collected))


class _Told:
    """The observer that tells the store."""

    def __init__(self, store: Any, lane: str) -> None:
        self._store, self._lane = store, lane

    def stage(self, name: str, *, lane: str = "") -> None:
        self._store.tell.remote((self._lane, name, 0, 0))

    def progress(self, done: int, total: int, *, lane: str = "") -> None:
        self._store.tell.remote((self._lane, "", done, total))

    def candidate(self, result: CandidateResult) -> None: ...


class _Logs:
    def __init__(self) -> None:
        self.collected: list[Log] = []

    def add_log(self, candidate: str, log: Path) -> None:
        self.collected.append(Log(entry=log.parent.name))

    def save_failed_log(self, candidate: str, stage: str, log: Path) -> None:
        if log.is_file():
            self.collected.append(Log(stage=stage, text=log.read_text(errors="replace")[-_LONGEST_LOG:]))


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for this task, and none that tasks left which were killed."""
    root = cores.folder()
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob("task-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"task-{os.getpid()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
