"""Serving folders made by publishing: SavedModels and ONNX files in name only, of as many versions as wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.publish.candidates import candidate, judged, ratio
from tests.publish.signatures import IMAGE
from trt_pipeline.backends.base import ArtifactKind
from trt_pipeline.config.schema import Config
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.publish.publish import WriteWarmUp, publish_all
from trt_pipeline.results import CandidateResult, Publication

CPU, GPU = ({"kind": "tf-serving", "version": "2.14"},), ({"kind": "tf-serving", "version": "2.14-gpu"},)
FILES: dict[ArtifactKind, str] = {"savedmodel": "model/saved_model.pb", "tensorrt-savedmodel": "model/saved_model.pb",
                                  "onnx": "s/model.onnx"}


def contract(*signatures: SignatureContract) -> Contract:
    return Contract(tags=("serve",), signatures={s.name: s for s in signatures}, assets={}, extra_assets={}, tables=0,
                    variable_bytes=0, tensorflow_version="2.14.1")


def made(folder: Path, content: str, kind: ArtifactKind = "savedmodel", host_mb: float = 400,
         gpu_mb: float | None = None, of: SignatureContract = IMAGE, **artifact: Any) -> CandidateResult:
    """A candidate that is faster than the original, and whose file says ``content``."""
    file = folder / FILES[kind]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    plain = candidate("tensorflow/fp32", ratio(5.0), kind=kind, verdict=judged(error=0.001))
    assert plain.artifact
    assert plain.benchmark
    return plain.model_copy(update={
        "benchmark": plain.benchmark.model_copy(update={"peak_memory_mb": host_mb, "gpu_memory_mb": gpu_mb}),
        "artifact": plain.artifact.model_copy(update={
            "files": {of.name: FILES[kind] if kind == "onnx" else "model"}, **artifact})})


def publish(root: Path, content: str = "graph", *, name: str = "demo", kind: ArtifactKind = "savedmodel",
            of: SignatureContract = IMAGE, write_warm_up: WriteWarmUp | None = None, host_mb: float = 400,
            gpu_mb: float | None = None, artifact: dict[str, Any] | None = None,
            **config: Any) -> tuple[Publication, ...]:
    """Publish into ``root``/serving; what has the same ``content`` as the newest version is not published again."""
    one = made(root / "work" / name, content, kind, host_mb, gpu_mb, of, **(artifact or {}))
    return publish_all(
        Config.model_validate({"name": name, "model": "m", "samples": {"validation": "v.npz"},
                               "serving": root / "serving", "targets": CPU, **config}),
        contract(of), (of.name,), (one,), {one.name: root / "work" / name}, "run 1", "digest", again=False,
        write_warm_up=write_warm_up)
