"""The site builds without a warning: every link and anchor in it exists, and it asks for nothing from the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import trt_pipeline as tp

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)], cwd=ROOT,
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = re.compile(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"')
    for page in pages:
        for found in loaded.finditer(page.read_text()):
            assert not re.match(r"(https?:)?//", found[1] or found[2]), f"{page.name}: {found[0]}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_the_command_line_is_all_there(site: Path) -> None:
    page = (site / "reference/command-line.html").read_text()
    for command in ("optimize", "sweep", "convert", "finalize", "verify", "doctor"):
        assert f"trt-pipeline {command}</code>" in page
    assert "--precision" in page


def test_every_public_name_is_described(site: Path) -> None:
    page = (site / "reference/python.html").read_text()
    assert "Judge every candidate and publish the best for each target." in page
    for name in tp.__all__:
        assert f'id="trt_pipeline.{name}"' in page, name
