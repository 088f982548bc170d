"""Run a converted model on the shim and compare it with the original, in a process of its own.

The shim stays loaded in a process for good, so tests start this file as a program (`differences`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trt_pipeline import interpreter

ROOT = Path(__file__).resolve().parents[2]
Differences = dict[str, float | str]


def differences(original: Path, converted: Path, library: Path, samples: Path,
                python: Path | None = None) -> Differences:
    """Signature -> largest difference of any output, or what went wrong.

    Args:
        library: the shim, as `build.build` made it for the same interpreter.
        samples: folder with a `samples.store` for each signature, under its quoted name.
    """
    # As a worker is started: an environment for workers has little more than TensorFlow.
    answer = subprocess.run(
        interpreter.command(python, "tests.tftrt_shim.compare", *map(str, (original, converted, library, samples))),
        cwd=ROOT, env=interpreter.variables(python), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found: Differences = json.loads(answer.stdout.splitlines()[-1])
    return found


def difference(expected: Any, got: Any) -> float:
    """As a share of the largest magnitude where that is above 1; infinite where it cannot be told."""
    import numpy as np

    expected, got = np.asarray(expected), np.asarray(got)
    if expected.dtype != got.dtype or expected.shape != got.shape:
        return float("inf")
    if expected.dtype.kind not in "fc" and expected.dtype.name != "bfloat16":
        return 0.0 if np.array_equal(expected, got) else float("inf")
    expected, got = expected.astype(np.complex128), got.astype(np.complex128)
    if not np.array_equal(np.isfinite(expected), np.isfinite(got)):
        return float("inf")
    return float(np.max(np.abs(expected - got)) / max(1.0, np.max(np.abs(expected)))) if expected.size else 0.0


def main(original: str, converted: str, library: str, samples: str) -> None:
    """Print the differences as JSON."""
    import tensorflow as tf

    from trt_pipeline.samples import store

    tf.load_op_library(library)
    before, after = tf.saved_model.load(original), tf.saved_model.load(converted)
    found: Differences = {}
    for name in before.signatures:
        folder = Path(samples, quote(name, safe=""))
        if not folder.is_dir():
            continue
        feeds = {key: tf.constant(value) for key, value in store.read(folder).items()}
        expected = before.signatures[name](**feeds)
        try:
            got = after.signatures[name](**feeds)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        found[name] = max((difference(expected[key], got[key]) for key in expected), default=0.0)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:5])
