"""junit.xml and the Markdown of a job's page: red where the command ends with 1, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factory
import pytest
from judged_runs import FAST, PENDING, RUN, TARGETS, WRONG
from lxml import etree
from markdown_it import MarkdownIt

from trt_pipeline.ci import gate, junit, summary
from trt_pipeline.ci.conclude import conclude
from trt_pipeline.ci.outcome import GateReport, Outcome
from trt_pipeline.errors import GateError, OutputError
from trt_pipeline.report import junit as verdict_junit
from trt_pipeline.run_result import RunResult

SCHEMA = etree.XMLSchema(file=str(Path(__file__).parent / "schemas/junit.xsd"))


def parsed(text: str) -> Any:
    """The document's root, after the schema has had its say, and the counts agree with the cases."""
    root = etree.fromstring(text.encode())
    SCHEMA.assertValid(root)
    for suite in root.iter("testsuite"):
        assert int(suite.get("tests")) == len(suite.findall("testcase")) > 0
        for count, element in (("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.get(count)) == len(suite.findall(f"testcase/{element}"))
    return root


def states(root: Any, suite: str) -> dict[str, str]:
    """Case -> passed, skipped or failure, of one suite."""
    found = next(one for one in root if one.get("name") == suite)
    return {case.get("name"): next((child.tag for child in case if child.tag != "system-out"), "passed")
            for case in found.findall("testcase")}


def with_gate(run: RunResult, *expressions: str, **more: Any) -> RunResult:
    found = gate.judge(gate.checks(expressions, **more), run, TARGETS)
    withheld = () if found.passed else gate.withheld(found, TARGETS)
    return run.model_copy(update={"gate": found, "publications": withheld or run.publications})


def test_every_part_of_a_run_has_its_case() -> None:
    root = parsed(junit.text([factory.mixed()]))
    assert [suite.get("name") for suite in root][:2] == ["demo original", "demo tensorflow/fp32"]
    assert states(root, "demo tensorflow/fp32") == dict.fromkeys(
        ("status", "parity serve.scores", "parity serve.tokens", "benchmark serve@1", "benchmark serve@8"), "passed")
    assert states(root, "demo tensorflow/bf16") == {
        "status": "skipped", "parity serve.scores": "skipped", "parity serve.tokens": "passed",
        "benchmark serve@1": "passed", "benchmark serve@8": "passed"}
    for name in ("demo tf-trt/fp16", "demo tf-trt/int8", "demo tensorrt/fp16"):
        assert states(root, name) == {"status": "skipped"}
    reason = root.xpath("//testsuite[@name='demo tf-trt/int8']//skipped/@message")
    assert reason == ["unsupported: TensorRT needs a GPU; none here"]
    assert states(root, "demo publication") == {"tf-serving 2.14": "passed", "triton 25.06": "failure"}


@pytest.mark.parametrize(("expressions", "strict"), [
    (["parity <= 0.01"], False), (["parity <= 1e-9"], False), (["tensorflow/int8: ok"], False),
    (["tf-trt/fp16: ok"], False), (["tf-trt/fp16: ok"], True)])
def test_red_exactly_where_the_exit_status_is_one(tmp_path: Path, expressions: list[str], strict: bool) -> None:
    run = with_gate(RUN, *expressions, strict=strict)
    asked = gate.checks(expressions, strict=strict, junit=tmp_path / "new" / "junit.xml")
    status = 0
    try:
        conclude(asked, [run])
    except GateError as error:
        status = error.exit_status
    root = parsed((tmp_path / "new" / "junit.xml").read_text())
    assert bool(root.findall(".//failure")) == (status == 1) == (not run.gate.passed)


def test_a_rejected_candidate_is_a_failure_only_if_the_gate_asks_for_it() -> None:
    asked, unasked = (parsed(junit.text([with_gate(RUN, one)])) for one in (
        "tensorflow/int8: ok", "tensorflow/int8: speedup_latency_p50@1 >= 9"))
    assert states(asked, "demo tensorflow/int8")["parity serve.scores"] == "failure"
    assert states(unasked, "demo tensorflow/int8")["parity serve.scores"] == "skipped"
    assert states(unasked, "demo gate") == {"tensorflow/int8: speedup_latency_p50@1 >= 9": "failure"}


def test_what_is_estimated_passes_nothing() -> None:
    assert set(states(parsed(junit.text([RUN])), "demo tf-trt/fp16").values()) == {"skipped"}


def test_several_models_are_one_document() -> None:
    other = RUN.model_copy(update={"name": "other"})
    assert len(parsed(junit.text([RUN, other]))) == 2 * len(RUN.candidates)


def test_a_reason_that_xml_cannot_hold_is_told_without_it() -> None:
    broken = factory.candidate("tensorflow/fp32", "failed", "convert: \x1b[31mno\x00 \ud800 ]]> <b>")
    message = parsed(junit.text([factory.run((factory.ORIGINAL, broken), ())])).xpath("//skipped/@message")
    assert message == ["failed: convert:  [31mno    ]]> <b>"]


def test_a_single_verdict_too(tmp_path: Path) -> None:
    verdict_junit.write(WRONG.verdict, tmp_path / "junit.xml")
    root = parsed((tmp_path / "junit.xml").read_text())
    assert [len(case) for case in root] == [1, 1]
    assert root.xpath("//failure/@message")[0].startswith("serve.scores: 97 of 640 elements outside")


def tables(text: str) -> list[list[str]]:
    """The rows of every table in the Markdown ``text``, as a reader gets them: cells joined by ' | '."""
    found, rows = [], []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            rows = []
        elif token.type == "inline":
            rows.append("".join(child.content for child in token.children or ()))
        elif token.type == "tr_close":
            found.append(rows)
            rows = []
    return found


def test_the_summary_says_what_came_of_it() -> None:
    text = summary.text([with_gate(RUN, "speedup_latency_p50@1 >= 1.4", "tf-trt/fp16: ok")])
    assert text.startswith("## demo: ✅ the gate is passed, 1 pending\n")
    rows = tables(text)
    assert ["speedup_latency_p50@1 >= 1.4", "tensorflow/fp32, tf-serving 2.14, triton 24.10", "✅ met",
            "speedup_latency_p50@1 is 1.5"] in rows
    assert next(row for row in rows if row[0] == "tf-trt/fp16")[1] == "pending-gpu"
    assert "    trt-pipeline finalize artifacts/demo/20240501-101500 -o finalized/demo\n" in text
    assert "finalize artifacts/demo/20240501-101500/candidates/tf-trt-fp16 -o finalized/tf-trt-fp16" in text
    missed = summary.text([with_gate(factory.run((factory.ORIGINAL, FAST), ()), "parity <= 1e-9")])
    assert missed.startswith("## demo: ❌ the gate was missed\n")


def test_names_and_reasons_stay_text(tmp_path: Path) -> None:
    hostile = "a|b `c` <img src=x> **bold** [link](http://x) \\| \n# heading"
    bad = factory.candidate("tensorflow/fp32", "failed", hostile)
    run = factory.run((factory.ORIGINAL, bad), ()).model_copy(update={"gate": GateReport(
        passed=False, outcomes=(Outcome(requirement=hostile, candidate=hostile, standing="missed", detail=hostile),))})
    text = summary.text([run])
    flat = " ".join(hostile.split())
    assert next(row for row in tables(text) if row[0] == "tensorflow/fp32")[-1] == flat
    assert [flat, flat, "❌ missed", flat] in tables(text)
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<img" not in html
    assert "<strong>" not in html
    assert "<a " not in html


def test_the_summary_is_appended_to_the_page(tmp_path: Path) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    conclude(gate.checks(summary=page), [RUN, RUN])
    assert page.read_text().startswith("before\n## demo: done\n")
    assert page.read_text().count("## demo: done") == 2


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*junit\.xml"):
        conclude(gate.checks(junit=tmp_path / "file" / "junit.xml"), [RUN])


def test_the_gate_survives_report_json() -> None:
    run = with_gate(RUN, "tf-trt/fp16: parity <= 1", "parity <= 1e-9")
    assert RunResult.model_validate_json(run.model_dump_json()).gate == run.gate
    assert PENDING in run.candidates
