"""What the pages and READMEs tell people to type exists: files, commands, options, targets, Python names."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import typer

import trt_pipeline as tp
from trt_pipeline import backends, client, estimators
from trt_pipeline.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages that only the site has.
GENERATED = ("command-line.md", "python.md")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def typed(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(command, options) of each `trt-pipeline ...` on the page, in code blocks and within sentences."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    for found in re.finditer(r"trt-pipeline\"?(?: |\n)([a-z]+)\b([^`\n]*)", text):
        rest = re.split(r"\s#|\s&&|\s\||;", found[2])[0]
        rest = re.sub(r"'[^']*'|\"[^\"]*\"", "X", rest)
        yield found[1], re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", rest)


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT / "docs"],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    """Of what lies outside the site, or is read on its own too."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not re.match(r"[a-z+]+:", target) and Path(target).name not in GENERATED:
            assert (page.parent / unquote(target)).exists(), target


@every_page
def test_commands_and_options_exist(page: Path) -> None:
    for command, options in typed(page):
        assert command in COMMANDS, f"trt-pipeline {command}"
        known = {name for one in COMMANDS[command].params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        for option in options:
            assert option in known, f"trt-pipeline {command} {option}"


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^|`|&& |\s{4})make ([a-z-]+)", page.read_text(), re.MULTILINE):
        assert target in targets, f"make {target}"


@every_page
def test_configurations_and_models_exist(page: Path) -> None:
    for name in re.findall(r"MODEL=([a-z]+)", page.read_text()):
        assert name == "mine" or (ROOT / f"configs/{name}.yaml").is_file(), name


@every_page
def test_python_names_exist(page: Path) -> None:
    modules = {"tp": tp, "client": client, "estimators": estimators}
    for block in python_blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                check_call(node, modules)


def check_call(call: ast.Call, modules: dict[str, object]) -> None:
    """Whether a function of ours takes these arguments."""
    assert isinstance(call.func, ast.Attribute)
    owner = call.func.value.id if isinstance(call.func.value, ast.Name) else None
    # What our examples call a run's result.
    holder = modules.get(owner or "") or {"run": tp.RunResult, "table": tp.RunResult}.get(owner or "")
    if holder is None:
        return
    function = getattr(holder, call.func.attr)
    if inspect.isclass(function):
        return
    given = [*([None] if holder is tp.RunResult else []), *call.args]
    inspect.signature(function).bind(*given, **{one.arg: None for one in call.keywords if one.arg})


def test_the_page_on_the_report_names_its_sections() -> None:
    from trt_pipeline.report import html

    told = re.findall(r"\*\*([A-Z][\w ]+)\*\*", (ROOT / "docs/how-to/read-the-report.md").read_text())
    titles = set(html._SECTIONS.values())
    assert {title for title in told if not title.startswith("The first")} <= titles
    assert "Parity" in told


def test_the_backend_of_the_how_to_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs/how-to/write-a-backend.md"
    code, test = python_blocks(page)
    (line,) = re.findall(r'^    ("onnx-simplified": .*),$', page.read_text(), re.MULTILINE)
    ((name, entry),) = ast.literal_eval(f"{{{line}}}").items()
    (tmp_path / f"{entry[0]}.py").write_text(code)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    monkeypatch.setitem(backends.BACKENDS, name, entry)
    space: dict[str, object] = {"np": np}
    exec(compile(test, str(page), "exec"), space)
    space["test_it_answers_as_the_original"](tmp_path / "work")  # type: ignore[operator]
