"""What commands print on stdout and stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from trt_pipeline.frozen import Frozen
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.report import terminal
from trt_pipeline.run_result import RunResult

out, err = Console(), Console(stderr=True)


def show_run(result: RunResult) -> None:
    """The summary of a run."""
    terminal.print_summary(result, out)


def print_json(document: Frozen) -> None:
    """One JSON document."""
    print(document.model_dump_json())


def print_outputs(outputs: Mapping[str, Any], as_json: bool) -> None:
    """Outputs by name, as saved_model_cli prints them or as JSON."""
    import numpy as np

    if as_json:
        print(json.dumps({name: value.tolist() for name, value in outputs.items()}, default=as_text))
        return
    for name, value in outputs.items():
        print(f"Result for output key {name}:\n{np.array2string(value, threshold=sys.maxsize)}")


def print_verdict(verdict: Verdict) -> None:
    """A line for each output."""
    for output in verdict.outputs:
        word = "passes" if output.passed else "FAILS"
        print(f"{output.signature}.{output.output}: {word} ({output.gate})")


def as_text(value: Any) -> str:
    """``value`` for JSON: bytes as the text that they are."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
