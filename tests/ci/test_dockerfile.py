"""The image of the GPU runner: linted, and what it says of versions and files agrees with the locks and the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
LINES = [" ".join(line.split()) for line in re.sub(r"\\\n", " ", TEXT).splitlines() if not line.startswith("#")]


def copied() -> list[str]:
    """The sources of every COPY."""
    return [word for line in LINES if line.startswith("COPY") for word in line.split()[1:-1]
            if not word.startswith("--")]


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_it_passes_hadolint() -> None:
    checked = subprocess.run([Path(sys.executable).parent / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True,
                             text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert not checked.stdout


def test_what_it_copies_is_there_and_not_left_out() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == kept
    assert all((ROOT / source).exists() for source in copied())
    # make installs the package itself from what was copied.
    assert {"pyproject.toml", "requirements.lock", "Makefile", "README.md", "trt_pipeline"} <= kept


def test_it_is_the_pairing_that_works() -> None:
    assert "FROM nvidia/cuda:11.8.0-runtime-ubuntu22.04" in LINES, "whose Python is 3.10"
    gpu = pins("tests/environments/tensorrt-8.5.lock")
    assert (gpu["tensorrt"], gpu["nvidia-cudnn-cu11"]) == ("8.5.3.1", "8.7.0.84")
    assert pins("requirements.lock")["tensorflow"] == "2.14.1"
    assert all("--require-hashes" in line for line in LINES if "pip install" in line)


def test_both_locks_want_the_same_of_what_both_have() -> None:
    """Or the second would undo the first."""
    first, second = pins("requirements.lock"), pins("tests/environments/tensorrt-8.5.lock")
    assert {name: (first[name], second[name]) for name in first.keys() & second.keys() if first[name] != second[name]
            } == {}


def test_its_libraries_lie_where_it_says(tensorrt_8: Path) -> None:
    found = re.search(r"LD_LIBRARY_PATH=(\S+)", TEXT)
    assert found
    wanted = {"tensorrt": "libnvinfer.so.8", "cudnn": "libcudnn.so.8", "cublas": "libcublas.so.11",
              "cuda_runtime": "libcudart.so.11.0"}
    folders = [path.removeprefix("/opt/venv/") for path in found[1].split(":") if path.startswith("/opt/venv/")]
    for folder, library in zip(folders, wanted.values(), strict=True):
        assert (tensorrt_8.parents[1] / folder / library).exists()


def test_whom_user_names_may_write_to_the_environment() -> None:
    """In the layer that made it, as another would hold all of it once more."""
    made, = (line for line in LINES if "make install" in line)
    assert made.endswith("&& chmod -R a+rwX /opt/venv")
    assert made.index("make install") < made.index("pip install") < made.index("chmod")


def test_nothing_runs_as_root() -> None:
    users = [line for line in LINES if line.startswith("USER")]
    assert users == ["USER 1000"]
    assert LINES.index("USER 1000") < next(number for number, line in enumerate(LINES) if "make install" in line)
