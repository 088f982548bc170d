"""A serving folder with the demo in it: a SavedModel for TensorFlow Serving, and ONNX (by name) for Triton."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import ROOT
from tests.publish.candidates import candidate, judged, ratio
from tests.publish.folders import contract
from tests.publish.signatures import IMAGE
from trt_pipeline import digest
from trt_pipeline.backends.base import Artifact
from trt_pipeline.config.schema import Config
from trt_pipeline.provenance.record import Provenance
from trt_pipeline.publish.publish import publish_all
from trt_pipeline.publish.seal import Evidence
from trt_pipeline.results import CandidateResult, Publication
from trt_pipeline.samples import store

MODEL = ROOT / "models/demo/1"
TARGETS = ({"kind": "tf-serving", "version": "2.14"}, {"kind": "triton", "version": "25.3"})


def config(root: Path, **changes: Any) -> Config:
    return Config.model_validate({"name": "demo", "model": MODEL, "samples": {"validation": "v.npz"},
                                  "serving": root / "serving", "targets": TARGETS, "max_batch_size": 4, **changes})


def faster(work: Path, content: str = "onnx") -> CandidateResult:
    """A candidate in both forms, whose files are in ``work``."""
    if not (work / "model").exists():
        shutil.copytree(MODEL, work / "model")
        (work / "s").mkdir()
    (work / "s/model.onnx").write_text(content)
    (work / "s/model.onnx.data").write_text("weights")
    plain = candidate("tensorflow/fp32", ratio(5.0), verdict=judged(error=0.001))
    return plain.model_copy(update={"artifact": Artifact(
        kind="savedmodel", files={IMAGE.name: "model"}, also={"onnx": {IMAGE.name: "s/model.onnx"}})})


def provenance(root: Path, **changes: Any) -> Provenance:
    folder = root / "artifacts/demo/20260101-000000"
    folder.mkdir(parents=True, exist_ok=True)
    return Provenance(config(root, **changes), folder, ["original", "tensorflow/fp32"],
                      digest.of_folder(MODEL), {"validation": "of samples"}, {})


def publish(root: Path, evidence: Evidence | None = None, content: str = "onnx",
            **changes: Any) -> tuple[Publication, ...]:
    """Publish into ``root``/serving, with requests to warm up with; other ``content`` is another version."""
    def write_warm_up(artifact: Artifact, sizes: tuple[int, ...]) -> Path:
        (root / "records").write_text(f"records of {sizes}")
        return root / "records"

    one, folder = faster(root / "work", content), root / "samples"
    if not folder.exists():
        store.write({"image": np.ones((2, 8, 8, 1), np.float32)}, folder)
    return publish_all(config(root, **changes), contract(IMAGE), (IMAGE.name,), (one,), {one.name: root / "work"},
                       "20260101-000000", digest.of_folder(MODEL), again=False, evidence=evidence,
                       samples={IMAGE.name: store.Samples(folder, {})}, write_warm_up=write_warm_up)


def files(folder: Path) -> dict[str, Path]:
    """All files below ``folder`` by path there."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
