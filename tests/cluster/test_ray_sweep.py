"""A sweep on a real Ray, started on this machine: the same verdicts as without, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

import trt_pipeline as tp
from tests.conftest import quick_demo
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult

CANDIDATES = ["tensorflow/fp32", "onnxruntime/int8"]
ONE_CORE_EACH = tp.Cluster(cpus=1)
LIMITS = {"memory_gb": 2, "time_s": 300}


class Saboteur:
    """Kills the process of a task on the cluster as soon as one has converted its candidate."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.judged: list[str] = []
        self.killed = 0

    def stage(self, name: str, *, lane: str = "") -> None:
        self.stages.append(name)
        if lane and name.endswith(": validate") and not self.killed:
            for process in psutil.process_iter(["cmdline"]):
                if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::judge"):
                    os.kill(process.pid, signal.SIGKILL)
                    self.killed += 1

    def progress(self, done: int, total: int, *, lane: str = "") -> None: ...

    def candidate(self, result: CandidateResult) -> None:
        self.judged.append(result.name)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


def swept(artifacts: Path, **changes: Any) -> RunResult:
    config = quick_demo(artifacts / "serving", limits=LIMITS)
    return tp.sweep(config, candidates=CANDIDATES, early_stopping=False, output=artifacts, **changes)


@pytest.mark.slow
def test_killed_processes_lose_nothing_and_the_verdicts_are_those_of_one_machine(artifacts: Path) -> None:
    saboteur = Saboteur()
    there = swept(artifacts, executor=ONE_CORE_EACH, observer=saboteur)
    assert saboteur.killed >= 1
    assert sorted(saboteur.judged) == sorted(["original", *CANDIDATES])
    costs = {cost.stage: cost.cached for one in there.candidates[1:] for cost in one.stages if cost.cached}
    assert costs.get("convert"), "what the killed task had finished was done again"
    here = swept(artifacts)
    assert not any(cost.cached for one in here.candidates[1:] for cost in one.stages), "on other cores, so all anew"
    assert verdicts(there) == verdicts(here)
    folder = Path(there.folder, "candidates", "onnxruntime-int8")
    assert (folder / "model/serving_default/model.onnx").stat().st_size > 0
    assert "serving_default" in (folder / "result.json").read_text()
    assert Path(folder, "log.txt").is_file()

    again = swept(artifacts, executor=ONE_CORE_EACH)
    assert verdicts(again) == verdicts(there)
    assert all(cost.cached for one in again.candidates for cost in one.stages)
    assert not list(artifacts.glob("demo/stages/staging-*"))


def verdicts(run: RunResult) -> dict[str, Any]:
    """Status, reason, and all that parity says, by candidate."""
    return {one.name: (one.status, one.reason, one.verdict, one.artifact and one.artifact.low_precision)
            for one in run.candidates}


@pytest.mark.parametrize(("executor", "text"), [
    ("rya", "no executor 'rya': there are local and ray"),
    (tp.Cluster(address="ray://localhost:10001"), "is a Ray client's address: run 'ray start --address=HOST:PORT'"),
])
def test_a_place_that_is_none(executor: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(tp.ConfigError, match=text):
        tp.sweep(quick_demo(tmp_path), executor=executor, output=tmp_path)
    assert list(tmp_path.iterdir()) == []
