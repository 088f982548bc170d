"""The terminal's table and bars: the essential words at any width, and nothing that a name can command."""

from __future__ import annotations

import io

import factory
import pytest
from rich.cells import cell_len
from rich.console import Console

from trt_pipeline.report.terminal import Bars, print_summary
from trt_pipeline.run_result import RunResult


def summary(result: RunResult, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [80, 120])
def test_summary_says_what_matters(width: int) -> None:
    text = summary(factory.mixed(), width)
    for words in ("tensorflow/fp32", "tensorflow/bf16", "onnxruntime/fp32", "rejected", "failed", "unsupported",
                  "pending-gpu", "1.50x [1.44, 1.56]", "33.3 ms", "exact", "3.4e-07", "7.36 MB", "p50@1", "thr@8",
                  "tf-serving 2.14: tensorflow/fp32, version 3 (new) at serving/demo/3",
                  "triton 25.06: nothing published: no candidate passed",
                  "servers: in serving: compose.yaml, kserve.yaml; models.config and batching_parameters.txt",
                  "report: artifacts/demo/20240501-101500/report.html"):
        assert words in text, words
    joined = "".join(text.split())
    assert "TensorRTneedsaGPU;nonehere" in joined if width == 80 else "TensorRT needs a GPU" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_stays_within_the_width_and_each_row_on_its_line(width: int) -> None:
    text = summary(factory.mixed(), width)
    table = text[:text.index("tf-serving 2.14:")]
    assert max(cell_len(line.rstrip()) for line in table.splitlines()) <= width
    rows = [line for line in table.splitlines() if line.startswith("tensorflow/fp32")]
    assert rows
    assert rows[0].split()[-2:] == ["7.36", "MB"]


def test_paths_are_never_broken_by_a_newline() -> None:
    path = "/srv/" + "a-long-folder/" * 12 + "demo/3"
    publication = factory.PUBLISHED.model_copy(update={"path": path})
    assert path in summary(factory.run((factory.ORIGINAL,), (publication,)), 80)


def test_markup_and_control_characters_are_printed_not_obeyed() -> None:
    reason = "[red]not markup[/red] [/nope] \x1b[2J\x07 end"
    text = summary(factory.run((factory.ORIGINAL, factory.candidate("a/fp32", "failed", reason))), 80)
    assert "[red]not markup[/red] [/nope]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_sweep_says_what_was_fastest() -> None:
    text = summary(factory.run((factory.ORIGINAL, factory.judged("a/fp32", 2.0, 0.0)), ()), 80)
    assert "only judged: the fastest candidate that passed is a/fp32, 2.00 times as fast" in text


def watched(terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)
    with Bars(console) as bars:
        bars.progress(1, 2)
        for result in factory.mixed().candidates:
            bars.stage(f"{result.name}: convert")
            bars.progress(3, 7)
            bars._bars.refresh()
            bars.candidate(result)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_bars_print_only_a_line_a_candidate_where_there_is_no_terminal() -> None:
    lines = watched(terminal=False).splitlines()
    candidates = factory.mixed().candidates
    assert len(lines) == len(candidates)
    for line, candidate in zip(lines, candidates, strict=True):
        assert line.startswith(f"{candidate.name}: {candidate.status}")
        assert line.endswith(candidate.reason)
    assert "p50 1.50x [1.44, 1.56] at batch size 1, parity error 3.4e-07" in lines[1]


def test_bars_show_the_stage_and_its_count_in_a_terminal() -> None:
    text = watched(terminal=True)
    assert "tensorflow/fp32: convert" in text
    assert "3/7" in text
    assert "[red]$\\frac$: convert" in text, "a name's markup is text in a bar, too"


def test_bars_write_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        bars.stage("inspect: inspect")
        bars.candidate(factory.ORIGINAL)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("original: ok")
