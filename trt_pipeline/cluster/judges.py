"""The run's end of a cluster: hand out the candidates, take in what becomes of them."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trt_pipeline.cluster import node
from trt_pipeline.cluster.parcel import Parcel
from trt_pipeline.cluster.settings import Cluster
from trt_pipeline.cluster.stage_store import StageStore
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.errors import ConfigError, MissingError
from trt_pipeline.results import CandidateResult
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.observer import Observer
from trt_pipeline.stages.study import Study

# A task is begun anew so often when its node or its process is lost.
_RETRIES = 3
_POLL_S = 0.3


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[RayJudges]:
    """Judges on ``cluster``; a connection or a local cluster that this makes ends with it.

    Raises:
        MissingError: Ray is not installed, or there is no cluster at the address.
        ConfigError: the cluster has no machine that is large enough, or is reached as a Ray client.
    """
    try:
        import ray
    except ImportError:
        raise MissingError("a cluster needs Ray: pip install 'trt-pipeline[cluster]'") from None
    named = os.environ.get("RAY_ADDRESS")
    address = (named if cluster.address in (None, "auto") and named else cluster.address) or "local"
    if address.startswith("ray://"):
        raise ConfigError(f"{address} is a Ray client's address: run 'ray start --address=HOST:PORT' on this "
                          "machine and give --address auto")
    own = not ray.is_initialized()
    if own:
        _start(address)
    elif cluster.address and ray.get_runtime_context().gcs_address != cluster.address:
        there = ray.get_runtime_context().gcs_address
        raise ConfigError(f"this program is connected to the Ray cluster {there}: leave the address out, or call "
                          "ray.shutdown() first")
    try:
        yield RayJudges(cluster)
    finally:
        if own:
            ray.shutdown()


def _start(address: str) -> None:
    """Connect to a cluster, or start one of this machine alone."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here = {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False} if address == "local" else {}
    mine = threading.current_thread() is threading.main_thread()
    interrupted = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingError(f"no Ray cluster at {address}: {first}") from None
    finally:
        if mine:  # Ray puts its own in its place
            signal.signal(signal.SIGTERM, interrupted)


class RayJudges:
    """Judges each candidate as a task of the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def judge(self, study: Study, executor: Executor,
              judged: Sequence[CandidateResult]) -> Iterator[tuple[CandidateResult, Path | None]]:
        """As `stages.judges.Judges`, in the order in which they are done.

        Raises:
            ConfigError: no machine of the cluster has what a candidate needs.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        needs = self._needs(study)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        store = ray.remote(StageStore).options(num_cpus=0, scheduling_strategy=here).remote(
            str(executor.cache.root), executor.fresh)
        ray.get([store.add_judged.remote(result) for result in judged])
        parcel = ray.put(Parcel(study, ray.put))
        task = ray.remote(node.judge).options(max_retries=_RETRIES, **needs)
        pending = {task.remote(parcel, spec, store, needs["num_cpus"], os.environ.get("OMP_NUM_THREADS")): spec
                   for spec in study.chosen}
        try:
            while pending:
                done, _ = ray.wait(list(pending), timeout=_POLL_S)
                _pass_on(ray.get(store.told.remote()), executor.observer)
                for reference in done:
                    result, files = _taken(reference, pending.pop(reference), executor)
                    ray.get(store.add_judged.remote(result))
                    yield result, files
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            ray.kill(store)

    def _needs(self, study: Study) -> dict[str, Any]:
        """What Ray has to reserve for a candidate."""
        import ray

        nodes = [found["Resources"] for found in ray.nodes() if found["Alive"]]
        there = int(max(n.get("GPU", 0) for n in nodes))
        gpus = min(1, there) if self._cluster.gpus is None else self._cluster.gpus
        usable = [n for n in nodes if n.get("GPU", 0) >= gpus and n.get("CPU", 0) >= (self._cluster.cpus or 1)]
        cpus = self._cluster.cpus or min((max(1, int(n["CPU"] // max(1, n.get("GPU", 0)))) for n in usable), default=1)
        memory = int(study.config.limits.memory_gb * 2**30)
        if not any(n.get("memory", 0) >= memory for n in usable):
            largest = max((n.get("memory", 0) for n in usable), default=0) / 2**30
            raise ConfigError(f"no machine of the cluster has {cpus} cores, {gpus} GPUs and {memory / 2**30:.1f} GB "
                              f"(limits.memory_gb) for a candidate; what Ray knows of has up to {largest:.1f} GB")
        return {"num_cpus": cpus, "num_gpus": gpus, "memory": memory}


def _taken(reference: Any, spec: CandidateSpec, executor: Executor) -> tuple[CandidateResult, Path | None]:
    """What a task that is done has found, with its logs where those of the run are."""
    import ray

    try:
        judged = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = f"it was lost with its node or process {_RETRIES + 1} times: {str(error).strip().splitlines()[0]}"
        return CandidateResult(name=spec.name, backend=spec.backend, precision=spec.precision, options=spec.options,
                               status="failed", reason=reason), None
    for log in judged.logs:
        if executor.folder and log.entry:
            executor.folder.add_log(judged.result.name, executor.cache.root / log.entry / "log.txt")
        elif executor.folder:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(log.text)
                file.flush()
                executor.folder.save_failed_log(judged.result.name, log.stage, Path(file.name))
    return judged.result, executor.cache.root / judged.entry / "files" if judged.entry else None


def _pass_on(events: list[Any], observer: Observer) -> None:
    for lane, stage, done, total in events:
        if stage:
            observer.stage(stage, lane=lane)
        else:
            observer.progress(done, total, lane=lane)
