"""`trt-pipeline request`: it prints what `run` prints, and every mistake is one line with its exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from trt_pipeline import cli

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command that ends with ``status``; returns its stdout, or its one line of error."""

    def call(*arguments: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["trt-pipeline", "request", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capfd.readouterr()
        assert (ended.value.code or 0) == status, captured.err
        lines = [line for line in captured.err.splitlines() if line.startswith("trt-pipeline: error: ")]
        assert len(lines) == (status != 0), captured.err
        return lines[0] if lines else captured.out

    return call


def test_predict(run: Run, address: str) -> None:
    printed = run(address, "toy", "--input-expr", "pairs=[[1, 2]]")
    assert printed == "Result for output key third:\n[[0.33333334 0.6666667 ]]\nResult for output key total:\n[3.]\n"
    words = run(address, "toy", "--signature", "words", "--version", 1, "--json",
                "--input-expr", "text=['a;é']; number=[2]")
    assert json.loads(words) == {"next": [3], "shout": ["A;É"]}


def test_classify_and_regress(run: Run, address: str) -> None:
    examples = json.dumps([{"pair": [1.5, 3.0]}])
    assert run(address, "toy", "--classify", "--signature", "classify", "--examples", examples) == (
        "first=0.5 second=1\n")
    regressed = run(address, "toy", "--regress", "--signature", "regress", "--label", "stable", "--examples", examples,
                    "--json")
    assert json.loads(regressed) == {"results": [1.5]}


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["toy"], "a request is --input-expr NAME=[[...]], or --classify"),
    (["toy", "--classify"], "with --examples JSON"),
    (["toy", "--regress", "--examples", "{}"], "--examples '{}': write JSON such as"),
    (["nothing", "--input-expr", "pairs=[[1,2]]"], "(NOT_FOUND)"),
    (["toy", "--signature", "wrods", "--input-expr", "pairs=[[1,2]]"], "did you mean 'words'?"),
    (["toy", "--input-expr", "pears=[[1,2]]"], "write NAME=[[...]] with NAME one of pairs"),
    (["toy", "--input-expr", "pairs=[[1,2,3]]"], "shape [1, 3] does not fit float32 (-1,2)"),
])
def test_mistakes(arguments: list[str], complaint: str, run: Run, address: str) -> None:
    assert complaint in run(address, *arguments, status=2)


def test_no_server(run: Run) -> None:
    assert "no server answers (" in run("http://127.0.0.1:1", "toy", "--input-expr", "x=1", status=3)
