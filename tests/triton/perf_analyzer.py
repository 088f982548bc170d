"""NVIDIA's perf_analyzer, of tritonclient's wheel: load on a running server, from real samples."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

# What it links and few machines have -> the file of it in nvidia-pytriton's wheel, which has another name there.
_LIBRARIES = {"libcudart.so.12": "libcudart-*.so.12*", "libb64.so.0d": "libb64-*.so.0d"}


@dataclass(frozen=True)
class Load:
    """What a load came to; latencies in ms, as the client saw them."""

    requests: int
    p50: float
    p90: float
    p99: float
    throughput: float
    """Requests a second."""
    answers: list[tuple[dict[str, list[Any]], dict[str, list[Any]]]] = field(repr=False)
    """Inputs and outputs by name of each request, flat."""


def load(address: str, model: str, samples: Sequence[Mapping[str, npt.NDArray[Any]]], *, requests: int,
         concurrency: int, protocol: str = "grpc", timeout_s: float = 500) -> Load:
    """Send ``requests`` requests of one row, ``concurrency`` at a time, from ``samples`` in turn.

    Args:
        address: host:port.
        samples: inputs by name, without a batch axis.

    Raises:
        AssertionError: a request failed; perf_analyzer ends at the first.
    """
    program = Path(sys.executable).with_name("perf_analyzer")
    if not program.is_file():
        pytest.skip("perf_analyzer is not installed")
    with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as scratch, _environment(Path(scratch)) as environment:
        data, export = Path(scratch, "data.json"), Path(scratch, "requests.json")
        data.write_text(json.dumps({"data": [
            {name: {"content": value.ravel().tolist(), "shape": list(value.shape)} for name, value in sample.items()}
            for sample in samples]}))
        ran = subprocess.run(
            [str(program), "-m", model, "-u", address, "-i", protocol, "-b", "1", "--input-data", str(data),
             "--concurrency-range", str(concurrency), "--request-count", str(requests),
             "--profile-export-file", str(export)],
            env=environment, capture_output=True, text=True, check=False, timeout=timeout_s)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return _read(json.loads(export.read_text()))


def _read(document: dict[str, Any]) -> Load:
    answered = document["experiments"][0]["requests"]
    starts = np.array([request["timestamp"] for request in answered])
    ends = np.array([request["response_timestamps"][0] for request in answered])
    p50, p90, p99 = np.percentile((ends - starts) / 1e6, [50, 90, 99])
    return Load(requests=len(answered), p50=p50, p90=p90, p99=p99,
                throughput=len(answered) / ((ends.max() - starts.min()) / 1e9),
                answers=[(_flat(one["request_inputs"]), _flat(one["response_outputs"][0])) for one in answered])


def _flat(tensors: dict[str, Any]) -> dict[str, list[Any]]:
    # One number stands for itself in the export.
    return {name: value if isinstance(value, list) else [value] for name, value in tensors.items()}


@contextlib.contextmanager
def _environment(scratch: Path) -> Iterator[dict[str, str]]:
    found = importlib.util.find_spec("pytriton")
    if found and found.origin:
        for name, pattern in _LIBRARIES.items():
            for file in (Path(found.origin).parents[1] / "nvidia_pytriton.libs").glob(pattern):
                (scratch / name).symlink_to(file)
    yield os.environ | {"LD_LIBRARY_PATH": str(scratch)}
