"""Compile `trt_cpu_shim.cc`, which gives TF-TRT's ops CPU kernels, for one TensorFlow."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Ignored by git, removed by `make clean`.
LIBRARIES = HERE.parents[1] / "build" / "tftrt_shim"

_OPTIONS = ("-O1", "-fPIC", "-shared", "-Wno-deprecated-declarations")
_VERSION = "from importlib.metadata import version; print(version('tensorflow'))"
_FLAGS = """
import json, tensorflow as tf
print(json.dumps([tf.sysconfig.get_compile_flags(), tf.sysconfig.get_link_flags()]))
"""


def build(python: Path, folder: Path, source: Path = HERE / "trt_cpu_shim.cc") -> Path:
    """The library in ``folder`` for the TensorFlow of the interpreter ``python``; compiled where it is not there.

    Load it with `tf.load_op_library`, in a process of its own: it is for the whole process, and stays.

    Raises:
        RuntimeError: that interpreter has no TensorFlow, or the compiler refuses.
    """
    digest = hashlib.sha256(repr(_OPTIONS).encode())
    for file in sorted({source, *source.parent.glob("*.h")}):
        digest.update(file.read_bytes())
    library = folder / f"trt_cpu_shim-{_ask(python, _VERSION)}-{digest.hexdigest()[:12]}.so"
    if not library.is_file():
        compile_flags, link_flags = json.loads(_ask(python, _FLAGS))
        folder.mkdir(parents=True, exist_ok=True)
        # Of two builders at once, the later replaces the library by the same one.
        with tempfile.TemporaryDirectory(dir=folder) as own:
            made = Path(own) / "made.so"
            # TRTEngineInstance, the message of an engine file, is in libtensorflow_cc.
            _compile([*_OPTIONS, *compile_flags, "-o", str(made), str(source), *link_flags, "-l:libtensorflow_cc.so.2"])
            made.replace(library)
    return library


@functools.cache
def _ask(python: Path, question: str) -> str:
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    answer = subprocess.run([str(python), "-c", question], capture_output=True, text=True, env=quiet, check=False)
    if answer.returncode:
        raise RuntimeError(f"{python} has no TensorFlow to build for: {_last_line(answer.stderr)}")
    return _last_line(answer.stdout)


def _compile(arguments: list[str]) -> None:
    try:
        done = subprocess.run(["g++", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("this machine has no g++") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise RuntimeError(f"the shim does not compile: {errors[0] if errors else _last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
