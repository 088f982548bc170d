"""Another interpreter is asked for its libraries, and gets none of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from trt_pipeline import interpreter
from trt_pipeline.environment import environment
from trt_pipeline.errors import ConfigError


def test_this_interpreter_says_of_itself_what_we_know() -> None:
    assert interpreter.examine(Path(sys.executable)).environment == environment()


def test_another_gets_nothing_of_ours(bare_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [sysconfig.get_paths()["purelib"], str(tmp_path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    found = interpreter.examine(bare_python)
    assert found.python == bare_python
    assert "tensorflow" in environment()
    assert {"tensorflow", "numpy", "pydantic"}.isdisjoint(found.environment)
    passed = interpreter.variables(bare_python)
    assert passed["PYTHONPATH"] == str(tmp_path)
    assert {"VIRTUAL_ENV", "PYTHONHOME"}.isdisjoint(passed)
    assert interpreter.variables(None)["PYTHONPATH"] == os.pathsep.join(paths)


def test_the_package_is_found_without_what_lies_beside_it(bare_python: Path, tmp_path: Path) -> None:
    """Installed, it lies among our libraries."""
    package = tmp_path / "trt_pipeline"
    shutil.copytree(Path(interpreter.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tensorflow-9.9.dist-info").mkdir()
    (tmp_path / "tensorflow-9.9.dist-info" / "METADATA").write_text("Name: tensorflow\nVersion: 9.9\n")
    command = [str(bare_python), str(package / "interpreter_main.py"), "trt_pipeline.environment"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
    assert "tensorflow" not in json.loads(answer.stdout)


@pytest.mark.parametrize(("text", "says"), [
    ("#!/bin/sh\necho no >&2; exit 1\n", "no"), ("#!/bin/sh\n", "it says nothing"), ("\0", "")])
def test_what_is_no_interpreter_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(text)
    fake.chmod(0o755)
    with pytest.raises(ConfigError) as failure:
        interpreter.examine(fake)
    assert str(failure.value).startswith(f"{fake} does not work as a Python interpreter: {says}")
    fake.chmod(0o644)
    with pytest.raises(ConfigError, match="is no Python interpreter: name an executable file such as "):
        interpreter.examine(fake)
