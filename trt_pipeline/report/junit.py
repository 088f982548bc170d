"""A verdict as JUnit XML: one test case an output, for CI systems."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from trt_pipeline.parity.judge import Verdict


def write(verdict: Verdict, path: Path) -> None:
    """Write ``verdict`` to ``path``."""
    failed = sum(not output.passed for output in verdict.outputs)
    suite = ElementTree.Element("testsuite", name="parity", tests=str(len(verdict.outputs)), failures=str(failed))
    for output in verdict.outputs:
        case = ElementTree.SubElement(suite, "testcase", classname=output.signature, name=output.output)
        if not output.passed:
            failure = ElementTree.SubElement(case, "failure", message=(output.reasons or (verdict.reason,))[0])
            failure.text = "\n".join(output.reasons)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
