"""The Python interpreters that workers run under: the run's own, or one that a backend names.

TF-TRT ends with TensorFlow 2.17, so its workers may need another TensorFlow than the run has. An
environment for workers holds what they import, which is TensorFlow, numpy and pydantic, and nothing of
this package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen

_START = Path(__file__).with_name("interpreter_main.py")
# Reading a few version numbers takes a tenth of a second; from a cold network disk, many times that.
_ANSWER_S = 60


def is_executable(path: Path) -> bool:
    """Whether ``path`` is a file that may be run."""
    return path.is_file() and os.access(path, os.X_OK)


def _absolute(path: Path) -> Path:
    """``path`` as any folder finds it; not resolved: a virtual environment is where its link to Python lies."""
    found = path.expanduser().absolute()
    if not is_executable(found):
        raise ValueError(f"{path} is no Python interpreter: name an executable file such as /opt/venv/bin/python")
    return found


PythonPath = Annotated[Path, AfterValidator(_absolute)]


class Interpreter(Frozen):
    """An interpreter other than the run's own, and the libraries that it has."""

    python: Path
    environment: dict[str, str]


def examine(python: Path) -> Interpreter:
    """Ask ``python`` for its libraries; none of them is imported.

    Raises:
        ConfigError: it is no executable file, or does not answer as a Python interpreter does.
    """
    try:
        python = _absolute(python)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        answer = subprocess.run(command(python, "trt_pipeline.environment"), env=variables(python),
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_S,
                                check=False)
        said = answer.stderr
        return Interpreter(python=python, environment=json.loads(answer.stdout))
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    except ValueError:
        pass
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it says nothing")
    raise ConfigError(f"{python} does not work as a Python interpreter: {last[:200]}")


def command(python: Path | None, module: str, *arguments: str) -> list[str]:
    """The command that runs ``module`` of this package under ``python``, or under the run's own interpreter."""
    return [str(python or sys.executable), str(_START), module, *arguments]


def variables(python: Path | None) -> dict[str, str]:
    """The environment variables for a process under ``python``: for another one without what belongs to ours."""
    # Warnings of TensorFlow belong in a worker's log, not on the user's terminal.
    kept = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"}
    # By default it takes all of a GPU's memory, and nothing that runs beside it gets any.
    kept.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if python is None:
        return kept
    for name in ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
        kept.pop(name, None)
    paths = [path for path in kept.pop("PYTHONPATH", "").split(os.pathsep)
             if path and not {"site-packages", "dist-packages"} & set(Path(path).parts)]
    return kept | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
