"""A BERT-base-like encoder converts within 4 GB and says what the original says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trt_pipeline as tp
from benchmarks import models
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_batch_and_length_free_within_4_gb(tmp_path: Path) -> None:
    model = tmp_path / "bert_base"
    code = f"from benchmarks import models; from pathlib import Path; models.bert_base(Path({str(model)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    np.savez(tmp_path / "few.npz", **models.sentences(4, seed=3, longest=48))
    limits = tp.Limits(memory_gb=4)
    tp.convert(model, "onnxruntime", "fp32", tmp_path / "onnx", limits=limits)
    verdict = tp.validate(model, tmp_path / "onnx", str(tmp_path / "few.npz"), limits=limits,
                          padding={"input_ids": 0, "attention_mask": 0},
                          gate=tp.Gate(outputs={"last_hidden_state": tp.Close(atol=1e-4)}))
    assert verdict.passed, verdict.reason
    figures = {f.group: f for f in verdict.outputs[0].figures}
    assert 0 < (figures["all"].max_abs or 0) < 1e-4
    assert {"batch 1", "batch max", "shortest", "longest", "shortest + longest"} <= figures.keys()
