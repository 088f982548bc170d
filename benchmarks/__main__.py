"""Optimize ResNet50 and a BERT-base-like encoder within 8 GB and print what docs/benchmarks.md shows.

`python -m benchmarks [resnet50] [bert_base] [predictor]`; models and samples are made once, below artifacts/. The
last one is another: requests to an Estimator (docs/estimators.md).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import trt_pipeline as tp
from benchmarks import predictor
from trt_pipeline.config.schema import BenchmarkSettings, IslandSettings
from trt_pipeline.publish.select import ratio
from trt_pipeline.report import terminal

ROOT = Path("artifacts/benchmarks")
MEMORY_GB = 8.0


def configuration(name: str, candidates: tuple[str, ...], padding: dict[str, int]) -> tp.Config:
    """Everything within 8 GB: a worker that needs more fails."""
    return tp.Config(
        name=name, model=ROOT / name, candidates=candidates, padding=padding, max_batch_size=8,
        samples=tp.SampleSources(validation=str(ROOT / f"{name}_validation.npz"),
                                 calibration=str(ROOT / f"{name}_calibration.npz")),
        benchmark=BenchmarkSettings(batch_sizes=(1, 8), duration_s=15), limits=tp.Limits(memory_gb=MEMORY_GB),
        # Weights are random, so a search for nodes to keep in float32 would search noise.
        islands=IslandSettings(evaluations=0))


# name -> (function that makes the samples, candidates, padding)
BENCHMARKS = {
    "resnet50": ("images", ("tensorflow/fp32", "tensorflow/int8", "onnxruntime/fp32", "onnxruntime/int8"), {}),
    "bert_base": ("sentences", ("tensorflow/int8", "onnxruntime/fp32", "onnxruntime/int8"),
                  {"input_ids": 0, "attention_mask": 0}),
}

PREDICTOR = "predictor"


def prepare(name: str) -> None:
    """Make the model and its samples if they are not there; in a process of its own, for its memory."""
    if not (ROOT / name / "saved_model.pb").exists():
        code = f"from benchmarks import models; from pathlib import Path; models.{name}(Path({str(ROOT / name)!r}))"
        subprocess.run([sys.executable, "-c", code], check=True)
    if not (ROOT / f"{name}_calibration.npz").exists():
        code = (f"from benchmarks import models; import numpy as np; make = models.{BENCHMARKS[name][0]}; "
                f"np.savez({str(ROOT / name)!r} + '_validation.npz', **make(24, 1)); "
                f"np.savez({str(ROOT / name)!r} + '_calibration.npz', **make(16, 2))")
        subprocess.run([sys.executable, "-c", code], check=True)


def main(names: list[str]) -> None:
    """Run the named benchmarks, all by default."""
    console = Console()
    ROOT.mkdir(parents=True, exist_ok=True)
    for name in names or [*BENCHMARKS, PREDICTOR]:
        if name == PREDICTOR:
            predictor.main(console)
            continue
        prepare(name)
        _, candidates, padding = BENCHMARKS[name]
        with terminal.Bars(Console(stderr=True)) as bars:
            result = tp.sweep(configuration(name, candidates, padding), observer=bars)
        terminal.print_summary(result, console)
        for candidate in result.candidates:
            for size in (1, 8):
                metric = f"throughput@{size}"
                console.print(f"{candidate.name} {metric}: {ratio(candidate, metric)} of the original", markup=False)
            if candidate.verdict:
                worst = max((f.figures[0].max_abs or 0.0) for f in candidate.verdict.outputs)
                console.print(f"{candidate.name}: largest absolute error {worst:.2g}", markup=False)
        peaks = [cost.peak_memory_mb for c in result.candidates for cost in c.stages]
        console.print(f"{name}: largest memory of a stage, all of its processes: {np.max(peaks) / 1024:.2f} GB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
