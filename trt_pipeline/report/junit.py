"""A verdict as JUnit XML, one test case an output, for CI systems; and what such a document is made of.

The elements and attributes are those that Jenkins' xUnit plugin accepts; GitLab and GitHub's actions read the same.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from trt_pipeline.parity.compare import OutputVerdict
from trt_pipeline.parity.judge import Verdict

# What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(verdict: Verdict, path: Path) -> None:
    """Write ``verdict`` to ``path``."""
    suite = Element("testsuite", name="parity")
    for output in verdict.outputs:
        parity_case(suite, output.signature, output.output, output, verdict.reason, "" if output.passed else "failure")
    path.write_text(document(suite), encoding="utf-8")


def add_suite(root: Element, name: str, seconds: float | None = None) -> Element:
    """A new suite of ``root``."""
    suite = ElementTree.SubElement(root, "testsuite", name=name)
    if seconds is not None:
        suite.set("time", f"{seconds:.3f}")
    return suite


def add_case(suite: Element, owner: str, name: str, told: str, state: str = "") -> Element:
    """A case of ``suite``.

    Args:
        owner: its class name, by which CI systems group.
        told: what was found; why, where it failed or was skipped.
        state: ``failure``, ``skipped``, or empty where it passed.
    """
    case = ElementTree.SubElement(suite, "testcase", classname=owner, name=name)
    if state:
        ElementTree.SubElement(case, state, message=told).text = told
    elif told:
        ElementTree.SubElement(case, "system-out").text = told
    return case


def parity_case(suite: Element, owner: str, name: str, output: OutputVerdict, reason: str, state: str) -> None:
    """The case of one output; ``reason`` is the verdict's, for an output that has none of its own."""
    told = "\n".join((*(output.reasons or ((reason,) if state and reason else ())), f"gate: {output.gate}",
                      *((f"worst: {output.worst}",) if output.worst else ())))
    add_case(suite, owner, name, told, state)


def _settle(suite: Element) -> None:
    """Set the counts of ``suite``."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def document(root: Element) -> str:
    """The text of the document, its suites settled, without the characters that XML cannot hold."""
    for element in root.iter():
        if element.tag == "testsuite":
            _settle(element)
        element.text = _NOT_XML.sub(" ", element.text) if element.text else element.text
        for key, value in element.attrib.items():
            element.set(key, _NOT_XML.sub(" ", value))
    ElementTree.indent(root)
    body: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
