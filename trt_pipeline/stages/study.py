"""What is the same for all candidates of a run, found before the first of them is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_pipeline import digest
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.config.schema import Config
from trt_pipeline.environment import environment
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.islands.islands import Islands
from trt_pipeline.metrics.metric import Metric
from trt_pipeline.metrics.score import Scores
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.reference import Reference
from trt_pipeline.stages.plan import SampleSet


class Study(Frozen):
    """A model, its samples, what the original says on them, and how candidates are made and judged."""

    config: Config
    chosen: tuple[CandidateSpec, ...]
    """The candidates, the original left out."""
    model_digest: str
    contract: Contract
    signatures: tuple[str, ...]
    """Those that are judged."""
    validation: SampleSet
    calibration: SampleSet | None
    reference: Reference
    reference_folder: Path
    """Folder of the original's outputs; the name of its parent is part of what later results are kept under."""
    interpreters: dict[str, Interpreter] = {}
    """Backend -> what its workers run under, where that is not the run's own interpreter."""
    pinned: dict[str, Islands] = {}
    """Candidate -> its islands, where the configuration names them."""
    vocabulary_digests: dict[str, str] = {}
    """Input or output -> digest of the vocabulary that its worst samples are shown in."""
    ranges: Path | None = None
    """The ranges file that conversions go by."""
    uncalibrated: str = ""
    """Why there is none, though there are samples for one."""
    metrics: tuple[Metric, ...] = ()
    """The user's own."""
    original_scores: Scores = Scores()
    original: tuple[Artifact, Path] | None = None
    """The original as a candidate, and the folder of its files; None until it has been converted."""

    def options(self, spec: CandidateSpec) -> dict[str, Any]:
        """What a candidate is converted with."""
        other = self.interpreters.get(spec.backend)
        return backend(spec.backend).complete_options(self.config.settings_of(spec.backend).options | spec.options,
                                                      other.environment if other else environment())

    @property
    def field(self) -> dict[str, Any]:
        """Everything that tells which candidates compete, and which of them pass."""
        return {"gate": self.config.gate.model_dump(mode="json"), "metrics": [one.digest for one in self.metrics],
                "accept_estimates": self.config.accept_estimates, "evaluations": self.config.islands.evaluations,
                "pinned": {name: islands.model_dump(mode="json") for name, islands in self.pinned.items()},
                "ranges": digest.of_file(self.ranges) if self.ranges else None,
                "candidates": [candidate.model_dump(mode="json") for candidate in self.chosen],
                "backends": {name: settings.options for name, settings in self.config.backends.items()},
                "targets": [target.model_dump(mode="json") for target in self.config.targets],
                "objective": self.config.objective}

    def sample_arguments(self) -> dict[str, Any]:
        """The validation samples as jobs take them."""
        return {"samples": {name: str(folder) for name, folder in self.validation.folders.items()},
                "padding": self.config.padding}
