"""Pages of the site that are made from the code itself: the command line, the Python API, and the Korean README."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

import trt_pipeline
from trt_pipeline.cli import app
from trt_pipeline.errors import ERROR_TYPES

ROOT = Path(__file__).resolve().parents[1]
# Public modules besides the package itself, and what users need of each.
_MODULES = {
    "trt_pipeline.client": ("connect", "connect_async"),
    "trt_pipeline.estimators": ("export", "Predictor"),
    "trt_pipeline.serve": ("running",),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for uri, text in (("reference/command-line.md", command_line()), ("reference/python.md", python_api()),
                      ("README.ko.md", korean())):
        files.append(File.generated(config, uri, content=text))
    return files


def command_line() -> str:
    """Every command of `trt-pipeline` with its arguments and options, as Typer documents them."""
    group = typer.main.get_command(app)
    pages = get_docs_for_click(obj=group, ctx=typer.Context(group), name="trt-pipeline", title="Command line")
    return f"{pages}\nWhat the commands end with: [exit statuses](exit-statuses.md).\n"


def python_api() -> str:
    """A page with every public name, in three groups."""
    public = list(trt_pipeline.__all__)
    functions = [name for name in public if name.islower()]
    errors = [name for name in public if name in ERROR_TYPES]
    records = [name for name in public if name not in functions and name not in errors]
    parts = ["# Python API\n", "```python\nimport trt_pipeline as tp\n```\n",
             "Importing it imports no TensorFlow, ONNX Runtime or TensorRT: each loads when it is first used.\n"]
    for title, names in (("Functions", functions), ("Records", records), ("Errors", errors)):
        parts.append(f"## {title}\n")
        parts += [f"::: trt_pipeline.{name}\n" for name in names]
    for module, names in _MODULES.items():
        parts.append(f"## {module}\n")
        parts += [f"::: {module}.{name}\n" for name in names]
    return "\n".join(parts)


def korean() -> str:
    """README.ko.md with its links as they are from here."""
    return re.sub(r"\]\(docs/", "](", (ROOT / "README.ko.md").read_text(encoding="utf-8"))
