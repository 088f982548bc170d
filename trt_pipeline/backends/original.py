"""The untouched original: always a candidate, and what the others are judged against."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline.backends.base import Artifact, Backend, ConversionRequest, Runner
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.model.contract import Contract


class Original(Backend):
    """Points at the SavedModel, byte for byte; only a publication copies it."""

    name = "original"
    precisions = ("native",)
    kind = "savedmodel"

    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        target.mkdir(parents=True)
        (target / "model").symlink_to(request.model.resolve(), target_is_directory=True)
        return Artifact(kind=self.kind, files=dict.fromkeys(request.signatures, "model"))

    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        return SavedModelRunner(contract, folder / next(iter(artifact.files.values())), threads)
