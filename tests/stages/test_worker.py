"""A worker delivers a JSON value, or one line that says what became of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from tests.stages import faults
from trt_pipeline.config.schema import Limits
from trt_pipeline.errors import MissingError, ModelError
from trt_pipeline.stages import jobs, worker
from trt_pipeline.stages.worker import WorkerFailed

ROOMY = Limits(time_s=60, memory_gb=4)


def test_value_and_progress_come_back(tmp_path: Path) -> None:
    seen = []
    outcome = worker.run(faults.answer, {"value": [1, "two", None]}, ROOMY, tmp_path / "log.txt",
                         lambda done, total: seen.append((done, total)))
    assert outcome.value == {"value": [1, "two", None], "parent": os.getpid()}
    assert seen[-1] == (3, 3)
    assert outcome.peak_memory_mb > 5


@pytest.mark.parametrize(("fault", "limits", "reason"), [
    (faults.abort, ROOMY, "it aborted"),
    (faults.segfault, ROOMY, "it crashed (segmentation fault)"),
    (faults.hang, Limits(time_s=1.5, memory_gb=4), "it was still running after 1.5 s, its limit (limits.time_s)"),
    (faults.exit_quietly, ROOMY, "it ended with status 0 before delivering a result"),
    (faults.raise_error, ROOMY, "ValueError: the shapes"),
])
def test_a_fault_is_one_line(fault, limits, reason, tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed) as failure:
        worker.run(fault, {}, limits, tmp_path / "log.txt")
    assert str(failure.value).split(";")[0] == reason


def test_memory_over_the_limit_is_stopped_and_named(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"it used \d\.\d GB of memory, over its limit of 0\.5 GB"):
        worker.run(faults.eat, {}, Limits(time_s=60, memory_gb=0.5), tmp_path / "log.txt")


def test_last_words_of_a_crash_are_in_the_reason(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"it aborted; its last words: about to abort"):
        worker.run(faults.convert, {"backend_name": "tensorflow", "request": {"precision": "fp32"}}, ROOMY,
                   tmp_path / "log.txt")


def test_errors_of_ours_keep_their_type(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model at /nowhere"):
        worker.run(jobs.inspect, {"model": "/nowhere", "tags": ["serve"], "folder": ""}, ROOMY, tmp_path / "log.txt")


def test_an_interpreter_without_the_packages_is_one_line(bare_python: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError) as failure:
        worker.run(jobs.inspect, {}, ROOMY, tmp_path / "log.txt", python=bare_python)
    assert str(failure.value) == (f"{bare_python} lacks tensorflow, numpy, pydantic: "
                                  f"{bare_python} -m pip install tensorflow numpy pydantic")


def test_what_a_worker_imports_is_in_the_smallest_environment(tmp_path: Path) -> None:
    """Another interpreter needs TensorFlow, numpy and pydantic; what only the run needs, it has not."""
    packages = worker.run(faults.loaded, {}, ROOMY, tmp_path / "log.txt").value
    assert {"numpy", "pydantic"} <= set(packages)
    assert {"tensorflow", "onnx", "tf2onnx", "onnxruntime", "psutil", "yaml", "jinja2", "rich", "typer"}.isdisjoint(
        packages)


def test_a_stopped_worker_leaves_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "grandchild"
    with pytest.raises(WorkerFailed):
        worker.run(faults.spawn_sleeper, {"pid_file": str(pid_file)}, Limits(time_s=2, memory_gb=4),
                   tmp_path / "log.txt")
    grandchild = int(pid_file.read_text())
    for _ in range(50):
        if not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("the worker's own child is still running")
