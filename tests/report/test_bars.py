"""Bars of a run where somebody looks: in a real terminal, and in a notebook's cell; lines, or nothing, elsewhere."""

from __future__ import annotations

import builtins
import io
import os
import pty
import re
import subprocess
import sys
import threading
import time
import types
from typing import Any

import pytest
from rich.console import Console

from tests.report import factory
from tests.report.lanes import Lane
from trt_pipeline.errors import ConfigError
from trt_pipeline.report.terminal import Bars
from trt_pipeline.stages.observer import Silent, watching

# Two candidates at work at once, each in a thread of its own, after a stage that both need; then one is done.
_RUN = """
import threading, time
from tests.report import factory
from tests.report.lanes import Lane
from trt_pipeline.stages.observer import watching

def work(name, done):
    lane = Lane(observer, name)
    lane.stage(f"{name}: convert")
    lane.progress(1, 2)
    lane.stage(f"{name}: validate")
    lane.progress(done, 7)
    time.sleep(0.6)

with watching() as observer:
    print("result on stdout")
    observer.stage("original: reference")
    observer.progress(2, 9)
    time.sleep(0.3)
    observer.stage("")
    threads = [threading.Thread(target=work, args=(name, done)) for name, done in (("a/fp32", 3), ("b/int8", 5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observer.candidate(factory.judged("a/fp32", 1.5, 0.0))
    time.sleep(0.6)
"""


def start(stderr: int, **variables: str) -> subprocess.Popen[bytes]:
    unforced = {name: value for name, value in os.environ.items() if name != "TRT_PIPELINE_PROGRESS"}
    return subprocess.Popen([sys.executable, "-c", _RUN], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=stderr, env=unforced | {"TERM": "xterm", "COLUMNS": "100"} | variables)


def shown_in_a_terminal(**variables: str) -> str:
    """What a terminal of its own gets as stderr of the run."""
    screen, stderr = pty.openpty()
    process = start(stderr, **variables)
    os.close(stderr)
    shown = b""
    try:
        while block := os.read(screen, 65536):
            shown += block
    except OSError:  # Linux says so at the end
        pass
    finally:
        os.close(screen)
    with process:
        assert process.stdout
        assert process.stdout.read() == b"result on stdout\n"
    assert process.returncode == 0, shown.decode()
    return shown.decode()


def frames(shown: str) -> list[str]:
    """The states of the bars in the order in which the terminal showed them."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame) for frame in re.split(r"(?:\x1b\[1A|\r)\x1b\[2K", shown)]


def test_a_terminal_shows_a_bar_for_each_that_is_at_work() -> None:
    shown = shown_in_a_terminal()
    assert any("original: reference" in frame and "2/9" in frame for frame in frames(shown))
    both = re.compile(r"a/fp32: validate\s.*3/7.*\r?\n.*b/int8: validate\s.*5/7|"
                      r"b/int8: validate\s.*5/7.*\r?\n.*a/fp32: validate\s.*3/7")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert both.search(plain), plain
    judged = next(i for i, frame in enumerate(frames(shown)) if "a/fp32: ok" in frame)
    after = "".join(frames(shown)[judged + 1:])
    assert "b/int8: validate" in after, "still at work"
    assert "a/fp32: validate" not in after, "its bar went with its line"
    assert "p50 1.50x [1.44, 1.56] at batch size 1" in plain
    assert shown.count("\x1b[?25h") == 1, "the cursor is there again"


def test_where_nobody_looks_nothing_is_shown_unless_asked_for() -> None:
    quiet, told = start(subprocess.PIPE), start(subprocess.PIPE, TRT_PIPELINE_PROGRESS="1")
    for process, lines in ((quiet, []), (told, ["a/fp32: ok, p50 1.50x [1.44, 1.56] at batch size 1, "
                                                "parity error exact"])):
        out, err = process.communicate(timeout=300)
        assert out == b"result on stdout\n"
        assert err.decode().split("\n")[:-1] == lines


def test_a_terminal_can_be_told_to_stay_quiet() -> None:
    assert shown_in_a_terminal(TRT_PIPELINE_PROGRESS="0") == ""


def test_the_variable_is_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRT_PIPELINE_PROGRESS", "yes")
    with pytest.raises(ConfigError, match="TRT_PIPELINE_PROGRESS is 'yes': it is 1"), watching():
        raise AssertionError
    own = Silent()
    with watching(own) as observer:
        assert observer is own


def test_a_lane_passes_on_what_is_told_of_it() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with Bars(console) as bars:
        first, second = Lane(bars, "a/fp32"), Lane(bars, "b/int8")
        first.progress(1, 2)
        first.stage("a/fp32: convert")
        second.stage("b/int8: convert")
        first.progress(1, 2)
        first.stage("a/fp32: validate")
        assert [(task.description, task.completed, task.total) for task in bars._bars.tasks] == [
            ("a/fp32: validate", 0, None), ("b/int8: convert", 0, None)], "in its place, its length not known"
        second.progress(4, 0)
        first.candidate(factory.judged("a/fp32", 1.5, 0.0))
        assert [task.description for task in bars._bars.tasks] == ["b/int8: convert"]
        second.stage("")
        second.progress(1, 2)
        assert bars._bars.tasks == []


def test_many_threads_leave_no_bar_behind() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)

    def work(name: str) -> None:
        lane = Lane(bars, name)
        for step in range(50):
            lane.stage(f"{name}: {step}")
            lane.progress(step, 50)
        lane.candidate(factory.candidate(name))

    with Bars(console) as bars:
        threads = [threading.Thread(target=work, args=(f"a/{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert bars._bars.tasks == []
    assert console.file.getvalue().count(": ok") == 8  # type: ignore[attr-defined]


class Display:
    """What IPython's display makes of an object, as far as a notebook sees it: its HTML, now and after each update."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def display(self, shown: Any, *, display_id: bool = False) -> Display | None:
        self.update(shown)
        return self if display_id else None

    def update(self, shown: Any, *, raw: bool = False) -> None:
        bundle = shown if raw else shown._repr_mimebundle_(include=(), exclude=())
        self.pages.append(bundle["text/html"])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Display:
    """As in a Jupyter kernel, without ipywidgets: what Rich looks for there, and what it shows things with."""
    front_end = Display()
    module = types.ModuleType("IPython.display")
    module.display = front_end.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    return front_end


@pytest.mark.filterwarnings("error")
def test_a_notebook_shows_bars_and_lines(notebook: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRT_PIPELINE_PROGRESS", raising=False)
    with watching() as observer:
        assert isinstance(observer, Bars)
        observer.stage("a/fp32: convert")
        observer.progress(3, 7)
        deadline = time.monotonic() + 60
        while not any("a/fp32: convert" in page and "3/7" in page for page in notebook.pages):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        observer.candidate(factory.judged("a/fp32", 1.5, 0.0))
        assert any("a/fp32: ok, p50 1.50x" in page for page in notebook.pages)
        before = threading.active_count()
    assert notebook.pages[-1] == "", "the bars go"
    assert threading.active_count() == before - 1, "and so does what refreshed them"


def test_a_notebook_without_ipython_to_show_it_with_gets_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    console = Console(force_jupyter=True)
    with Bars(console) as bars:
        bars.stage("a/fp32: convert")
        bars.candidate(factory.judged("a/fp32", 1.5, 0.0))
