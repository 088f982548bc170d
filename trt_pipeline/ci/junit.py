"""Whole runs as JUnit XML, which CI systems show test by test.

Something is a failure here exactly where it makes the command end with status 1: a missed gate, or a target that
gets nothing. A candidate that was rejected is what a run is for, and is skipped with its reason, unless the gate
asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from trt_pipeline.ci.outcome import GateReport
from trt_pipeline.report import numbers
from trt_pipeline.report.junit import add_case, add_suite, document, parity_case
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult


def text(results: Sequence[RunResult]) -> str:
    """The document: for each run a suite of each candidate, one of the gate and one of what was published."""
    root = ElementTree.Element("testsuites", name="trt-pipeline")
    for result in results:
        asked = _asked_to_pass(result.gate)
        for candidate in result.candidates:
            _candidate(root, result, candidate, candidate.name in asked)
        if result.gate:
            _gate(root, result.name, result.gate)
        if result.publications:
            suite = add_suite(root, f"{result.name} publication")
            for one in result.publications:
                add_case(suite, f"{result.name}.publication", one.target, f"{one.candidate or 'nothing'}: {one.why}",
                         "" if one.candidate else "failure")
    return document(root)


def _asked_to_pass(found: GateReport | None) -> set[str]:
    """The candidates that missed a requirement on their status or their parity."""
    return {one.candidate for one in found.outcomes if one.standing == "missed"
            and one.requirement.startswith(("ok", "parity"))} if found else set()


def _candidate(root: ElementTree.Element, result: RunResult, candidate: CandidateResult, asked: bool) -> None:
    suite = add_suite(root, f"{result.name} {candidate.name}", sum(stage.seconds for stage in candidate.stages))
    known = {"status": candidate.status, "run": result.run_id, "model": result.model_digest,
             **{key: value for key, value in result.environment.items() if value}}
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in known.items():
        ElementTree.SubElement(properties, "property", name=name, value=value)
    owner = f"{result.name}.{candidate.name}"
    wrong = "failure" if asked and candidate.status != "pending-gpu" else "skipped"
    add_case(suite, owner, "status", ": ".join(filter(None, (candidate.status, candidate.reason))),
             "" if candidate.status == "ok" else wrong)
    for output in candidate.verdict.outputs if candidate.verdict else ():
        passed = output.passed and candidate.status != "pending-gpu"  # what is estimated passes nothing
        parity_case(suite, owner, f"parity {output.signature}.{output.output}", output,
                    candidate.verdict.reason if candidate.verdict else "", "" if passed else wrong)
    for batch in candidate.benchmark.batches if candidate.benchmark else ():
        found = (f"p50 {numbers.milliseconds(batch.candidate.p50)}, p99 {numbers.milliseconds(batch.candidate.p99)}, "
                 f"{numbers.rate(batch.candidate.throughput)}; the original over it: "
                 f"{', '.join(f'{metric} {ratio}' for metric, ratio in batch.ratios.items())}")
        add_case(suite, owner, f"benchmark {batch.signature}@{batch.batch_size}", found)


def _gate(root: ElementTree.Element, name: str, found: GateReport) -> None:
    suite = add_suite(root, f"{name} gate")
    pending = "failure" if found.strict else "skipped"
    states = {"met": "", "missed": "failure", "pending": pending}
    for one in found.outcomes:
        add_case(suite, f"{name}.gate", f"{one.candidate or 'nothing'}: {one.requirement}", str(one),
                 states[one.standing])
    for worse in found.regressions:
        add_case(suite, f"{name}.baseline", f"{worse.candidate}: {worse.what}", str(worse), "failure")
    if found.compared:
        add_case(suite, f"{name}.baseline", "compared", f"with {found.compared} runs; {'; '.join(found.notes)}")
    elif found.notes:
        add_case(suite, f"{name}.baseline", "compared", "; ".join(found.notes), "skipped")
