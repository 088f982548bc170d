"""Two processes do not run one model at once; the kernel frees the lock of one that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trt_pipeline.errors import OutputError
from trt_pipeline.stages.lock import exclusive

HOLDER = """
import sys
from pathlib import Path
from trt_pipeline.stages.lock import exclusive
with exclusive(Path(sys.argv[1]), "demo"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ``folder`` until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with other_process(tmp_path) as holder:
        with pytest.raises(OutputError) as caught, exclusive(tmp_path, "demo"):
            pytest.fail("both hold it")
        assert str(caught.value) == (f"demo: another run (process {holder.pid}) is at work in {tmp_path}; wait for it "
                                     "or use --output")


def test_another_folder_is_free(tmp_path: Path) -> None:
    with other_process(tmp_path / "a"), exclusive(tmp_path / "b", "demo"):
        assert (tmp_path / "b" / ".lock").read_text() == str(os.getpid())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_dies_lets_go(tmp_path: Path, number: int) -> None:
    with other_process(tmp_path) as holder:
        os.kill(holder.pid, number)
        holder.wait(timeout=10)
        with exclusive(tmp_path, "demo"):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_one_that_ends_or_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="failed"), exclusive(tmp_path, "demo"):
        raise ValueError("failed")
    with exclusive(tmp_path, "demo"):
        pass
    with other_process(tmp_path):
        pass


def test_one_process_does_not_get_it_twice_either(tmp_path: Path) -> None:
    with exclusive(tmp_path, "demo"), pytest.raises(OutputError, match="another run"), exclusive(tmp_path, "demo"):
        pytest.fail("held twice")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught, exclusive(tmp_path / "file" / "demo", "demo"):
        pytest.fail("held")
    assert str(caught.value) == (f"cannot write to {tmp_path}/file/demo: Not a directory; choose another folder or "
                                 "mend its permissions")


def test_an_error_of_the_work_itself_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), exclusive(tmp_path, "demo"):
        (tmp_path / "nowhere").read_text()
