"""The messages that the troubleshooting page explains are still what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/troubleshooting.md"


def explained() -> list[str]:
    return re.findall(r"^### `(.+)`$", PAGE.read_text(), re.MULTILINE)


def messages() -> Iterator[str]:
    """Every text in the package, docstrings left out; what is filled in when it runs is a NUL."""
    for file in sorted((ROOT / "trt_pipeline").rglob("*.py")):
        tree = ast.parse(file.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                yield node.value


def test_each_message_still_occurs_in_the_source() -> None:
    known = list(messages())
    headings = explained()
    assert len(headings) >= 30
    for heading in headings:
        # The fixed words, in order, within one text of the source.
        fixed = ".*".join(re.escape(part) for part in re.split(r"<[^>]*>", heading))
        pattern = re.compile(fixed, re.DOTALL)
        assert any(pattern.search(text) for text in known), f"no message says: {heading}"


def test_each_message_has_a_cure() -> None:
    parts = re.split(r"^#{2,3} .*$", PAGE.read_text(), flags=re.MULTILINE)
    titles = re.findall(r"^#{2,3} .*$", PAGE.read_text(), flags=re.MULTILINE)
    for title, text in zip(titles, parts[1:], strict=True):
        assert title.startswith("## ") or len(text.split()) >= 8, title
