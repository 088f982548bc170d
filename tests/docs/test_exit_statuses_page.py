"""The page on exit statuses says of each error what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from trt_pipeline.errors import ERROR_TYPES

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/exit-statuses.md"


def test_each_error_stands_beside_its_status() -> None:
    told = {error: int(status) for status, errors in re.findall(r"^\| (\d+) \|.*\| (.*) \|$", PAGE.read_text(), re.M)
            for error in re.findall(r"`(\w+)`", errors)}
    assert told == {name: kind.exit_status for name, kind in ERROR_TYPES.items() if hasattr(kind, "exit_status")}
