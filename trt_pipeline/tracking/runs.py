"""Log a finished run to MLflow: one MLflow run for it, and one below it for each candidate."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trt_pipeline import digest
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages.run_folder import folder_name
from trt_pipeline.tracking import entries, server
from trt_pipeline.tracking.entries import Entries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ENVIRONMENT = "env"
_PARENT = "mlflow.parentRunId"
_FINISHED, _FAILED = "FINISHED", "FAILED"
# Of candidates in a run.
_MOST = 1000


class Logged(Frozen):
    """Where a run is in MLflow."""

    uri: str
    """Of the server or store, without a password."""
    experiment_id: str
    run_id: str
    candidates: dict[str, str]
    """Candidate -> its MLflow run."""
    new: bool
    """False where it was there already, just as it is."""

    @property
    def page(self) -> str:
        """The run's page where a server has one; else the store with the run's id."""
        if self.uri.startswith("http"):
            return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{self.uri}, run {self.run_id}"


def check(uri: str | None = None) -> None:
    """Find out before any work whether `log` could reach ``uri``.

    Raises:
        As `log`.
    """
    with server.client_of(_address(uri)) as client, server.impatient():
        client.search_experiments(max_results=1)


def log(result: RunResult, *, uri: str | None = None, experiment: str | None = None,
        folder: str | Path | None = None) -> Logged:
    """Log ``result`` with parameters, metrics, tags and files; the models themselves stay where they are.

    What was logged before is found again by the run's name and the model's digest: as it is, nothing is done; changed
    since (finalized on a GPU, say) or cut off half-way, it is brought up to date.

    Args:
        uri: the tracking server or store; None, ``""`` or ``"env"`` for what ``MLFLOW_TRACKING_URI`` names.
        experiment: its experiment, made where there is none; ``MLFLOW_EXPERIMENT_NAME`` or the model's name by default.
        folder: the run's folder, where it is no longer at ``result.folder``.

    Raises:
        MissingError: there is no MLflow here, or not the parts that such a store needs.
        ConfigError: ``uri`` is no address of a server or store.
        UnreachableError: no server answers.
        RequestError: it refused, or the store cannot be read or written.
    """
    place = Path(folder or result.folder)
    parent = entries.of_run(result)
    children = [_Child(entries.of_candidate(result, candidate), place / "candidates" / folder_name(candidate.name))
                for candidate in result.candidates]
    state = {entries.RESULT_DIGEST: digest.of_value(result.model_dump(mode="json"))}
    with server.client_of(_address(uri)) as client:
        with server.impatient():
            experiment_id = _experiment(client, experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or result.name)
        into = _Experiment(client, experiment_id, _started(result))
        run, below, new = into.log(parent, place, children, state)
        return Logged(uri=server.shown(client.tracking_uri), experiment_id=experiment_id, run_id=run,
                      candidates=below, new=new)


class _Child(NamedTuple):
    """A candidate: what is logged of it, and where its files are."""

    entries: Entries
    folder: Path


class _Experiment:
    """Where runs are logged that ``started`` at a time in milliseconds since 1970."""

    def __init__(self, client: MlflowClient, experiment_id: str, started: int | None) -> None:
        self._client, self._id, self._started = client, experiment_id, started

    def log(self, parent: Entries, folder: Path, children: list[_Child],
            state: dict[str, str]) -> tuple[str, dict[str, str], bool]:
        """Log a run whose contents ``state`` identifies: its MLflow run, its candidates', and whether it was news."""
        there = self._find(parent.identity)
        run = there[0] if there else self._create(parent, parent.identity)
        below = {found.data.tags.get(entries.CANDIDATE, ""): found
                 for found in self._find({_PARENT: run.info.run_id})} if there else {}
        if run.info.status == _FINISHED and state.items() <= run.data.tags.items():
            return run.info.run_id, {name: found.info.run_id for name, found in below.items()}, False
        ids = {}
        for child, its_folder in children:
            its_run = below.get(child.name) or self._create(child, {**child.identity, _PARENT: run.info.run_id})
            ids[child.name] = its_run.info.run_id
            self._write(its_run, child, its_folder)
        # The state comes last, so that what was cut off is logged again.
        self._write(run, parent, folder, state)
        return run.info.run_id, ids, True

    def _write(self, run: Run, found: Entries, folder: Path, state: dict[str, str] | None = None) -> None:
        """Log what ``run`` lacks or has otherwise; only parameters cannot change."""
        from mlflow.entities import Metric, Param, RunTag

        known, now, run_id = run.data, int(time.time() * 1000), run.info.run_id
        metrics = [Metric(key, value, now, 0) for key, value in found.metrics.items()
                   if known.metrics.get(key) != value]
        params = [Param(key, value) for key, value in found.params.items() if key not in known.params]
        tags = [RunTag(key, value) for key, value in found.tags.items() if known.tags.get(key) != value]
        self._client.log_batch(run_id, metrics, params, tags)
        # The files in the folder itself, not those of the models below it.
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.is_file():
                self._client.log_artifact(run_id, str(file))
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in (state or {}).items()])
        self._client.set_terminated(run_id, _FAILED if found.failed else _FINISHED,
                                    run.info.start_time + int(found.seconds * 1000))

    def _find(self, tags: dict[str, str]) -> list[Run]:
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        return list(self._client.search_runs([self._id], condition, max_results=_MOST))

    def _create(self, found: Entries, tags: dict[str, str]) -> Run:
        return self._client.create_run(self._id, start_time=self._started, tags=tags, run_name=found.name)


def _address(uri: str | None) -> str | None:
    return None if uri in (None, "", ENVIRONMENT) else uri


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            # Another run has just made it.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(f"{server.shown(client.tracking_uri)}: the experiment '{name}' was deleted: restore it, or "
                          "name another with MLFLOW_EXPERIMENT_NAME")
    return str(found.experiment_id)


def _started(result: RunResult) -> int | None:
    """When the run's folder was made, in milliseconds since 1970; None where its name does not say."""
    try:
        return int(datetime.strptime(result.run_id[:15], "%Y%m%d-%H%M%S").timestamp() * 1000)
    except ValueError:
        return None
