"""Cores that are one candidate's alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trt_pipeline.cluster import cores
from trt_pipeline.errors import ConfigError

_HOLD = """
import sys, time
from trt_pipeline.cluster import cores
with cores.claimed(int(sys.argv[1])) as got:
    print(*got, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _locks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_two_never_have_the_same_core_and_a_killed_one_gives_its_own_back() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("this machine has one core")
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(len(allowed) - 1)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    theirs = {int(core) for core in holder.stdout.readline().split()}
    with cores.claimed(1) as ours:
        assert theirs | set(ours) == set(allowed)
        assert os.sched_getaffinity(0) == set(ours)
        child = subprocess.run([sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], text=True,
                               stdout=subprocess.PIPE, check=True)
        assert [int(core) for core in child.stdout.split()] == list(ours)
    assert os.sched_getaffinity(0) == set(allowed)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    started = time.monotonic()
    with cores.claimed(len(allowed)) as all_of_them:
        assert list(all_of_them) == allowed
    assert time.monotonic() - started < 5


def test_more_cores_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"Ray lends 4096 cores of .*: give --cpus "), cores.claimed(4096):
        pass
