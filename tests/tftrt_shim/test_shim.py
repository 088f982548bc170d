"""The CPU kernels for TF-TRT's ops, which other tests lean on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tftrt_shim.build import LIBRARIES, build

PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def library() -> Path:
    return build(PYTHON, LIBRARIES)


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_the_kernels_behave_like_tf_trts() -> None:
    file = Path(__file__).with_name("in_own_process.py")
    done = subprocess.run([PYTHON, "-m", "pytest", "-p", "no:cacheprovider", str(file)],
                          env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"},  # it reads the warnings
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_library_is_compiled_once(library: Path) -> None:
    made = library.stat().st_mtime_ns
    assert build(PYTHON, LIBRARIES) == library
    assert library.stat().st_mtime_ns == made


def test_what_does_not_compile_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.cc").write_text("#error left unfinished\n")
    with pytest.raises(RuntimeError, match=r"does not compile: .*broken\.cc:1:2: error: #error left unfinished"):
        build(PYTHON, tmp_path / "libraries", tmp_path / "broken.cc")
    assert list((tmp_path / "libraries").iterdir()) == []


def test_an_interpreter_without_tensorflow_is_named(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/bin/false")
    with pytest.raises(RuntimeError, match="has no TensorFlow to build for"):
        build(tmp_path / "python", tmp_path)
