"""Run one stage of a run in a worker, or take the result that was kept of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ModelChangedError, Unsupported
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.results import StageCost
from trt_pipeline.stages import plan, worker
from trt_pipeline.stages.cache import Entry, StageCache, key_of
from trt_pipeline.stages.observer import Observer
from trt_pipeline.stages.worker import Outcome

# Key under which a kept result says that a backend cannot take the model.
_UNSUPPORTED = "unsupported"


class Logs(Protocol):
    """Where logs of stages go."""

    def add_log(self, candidate: str, log: Path) -> None:
        """Make ``log`` part of the candidate's log."""

    def save_failed_log(self, candidate: str, stage: str, log: Path) -> None:
        """The same with the log of a stage that failed, which is not kept elsewhere."""


class Executor:
    """Does the stages of one run; ``folder``, once there is one, gets their logs."""

    def __init__(self, config: Config, model_digest: str, cache: StageCache, fresh: bool, observer: Observer) -> None:
        self.cache = cache
        self.folder: Logs | None = None
        self._config, self._model_digest = config, model_digest
        self.fresh, self.observer = fresh, observer
        self._base_key: dict[str, Any] = {"model": model_digest, "tags": config.tags}

    def stage(self, shown: str, stage: str, function: Callable[..., Any], arguments: dict[str, Any],
              parts: dict[str, Any], interpreter: Interpreter | None = None) -> tuple[Entry, StageCost]:
        """The result of one stage: the kept one, or a worker's, which is then kept.

        Args:
            shown: whose stage it is, for people.
            function, arguments: what a worker calls; it is given a ``folder`` for its files besides.
            parts: all that the result depends on beyond model, tags and this machine's libraries.
            interpreter: what the worker runs under, where that is not the run's own.

        Raises:
            WorkerFailed: it did not deliver.
            Unsupported, PipelineError: what the function raised of these.
        """
        self.observer.stage(f"{shown}: {stage}")
        libraries = {"interpreter": interpreter.environment} if interpreter else {}
        key = key_of(self._base_key | parts | libraries | {"stage": stage})
        entry = None if self.fresh else self.cache.find(stage, key)
        cached = entry is not None
        if entry is None:
            entry = self._work(shown, stage, key, function, arguments, interpreter.python if interpreter else None)
        if self.folder:
            self.folder.add_log(shown, entry.log)
        if isinstance(entry.value, dict) and _UNSUPPORTED in entry.value:
            raise Unsupported(entry.value[_UNSUPPORTED])
        return entry, StageCost(stage=stage, seconds=entry.seconds, peak_memory_mb=entry.peak_memory_mb, cached=cached)

    def _work(self, shown: str, stage: str, key: str, function: Callable[..., Any], arguments: dict[str, Any],
              python: Path | None) -> Entry:
        staging = self.cache.stage()
        try:
            outcome = worker.run(function, {**arguments, "folder": str(staging / "files")}, self._config.limits,
                                 staging / "log.txt", self.observer.progress, python)
        except Unsupported as error:
            # Will be so again: a result like any other.
            outcome = Outcome(value={_UNSUPPORTED: str(error)}, seconds=0, peak_memory_mb=0)
        except BaseException:
            if self.folder:
                self.folder.save_failed_log(shown, stage, staging / "log.txt")
            shutil.rmtree(staging, ignore_errors=True)
            raise
        if plan.check_model(self._config) != self._model_digest:
            shutil.rmtree(staging, ignore_errors=True)
            raise ModelChangedError(f"{self._config.model} was changed while it was being optimized: run again")
        return self.cache.keep(stage, key, staging, outcome.value, outcome.seconds, outcome.peak_memory_mb)
