"""README.ko.md keeps step with README.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, KOREAN = ((ROOT / name).read_text() for name in ("README.md", "README.ko.md"))


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def code(text: str) -> list[str]:
    """Lines of code blocks without their comments; a column of words is prose, and translated."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()] + re.findall(r"^    (.*)", text, re.MULTILINE)
    plain = (re.split(r"(?:^|\s+)#", line)[0].strip() for line in lines)
    return [line for line in plain if line and not re.match(r"[\w.]+/ ", line) and "  " not in line]


def test_it_has_the_same_headings() -> None:
    assert headings(KOREAN) == headings(ENGLISH)


def test_it_has_the_same_commands() -> None:
    assert len(code(ENGLISH)) > 20
    assert code(KOREAN) == code(ENGLISH)


def test_it_has_the_same_links_and_tables() -> None:
    def links(text: str) -> list[str]:
        return sorted(re.findall(r"\]\(([^)]+)\)", text))

    def first_cells(text: str) -> list[str]:
        return re.findall(r"^\| (`[^|]*`)", text, re.MULTILINE)

    assert links(KOREAN) == links(ENGLISH)
    assert first_cells(KOREAN) == first_cells(ENGLISH)


def test_it_is_korean() -> None:
    assert len(re.findall(r"니다[.:]", KOREAN)) > 30
