"""A candidate on disk, however it got there: a conversion's folder, any SavedModel, or an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path

from trt_pipeline.backends import backend
from trt_pipeline.backends.base import Artifact, Runner, Stage
from trt_pipeline.errors import ConfigError, ModelError
from trt_pipeline.frozen import Frozen
from trt_pipeline.interpreter import is_executable
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import Contract

DESCRIPTION = "candidate.json"
# Where a candidate's files are shown in a run's folder of it.
MODEL_FOLDER = "model"


class Candidate(Frozen):
    """What is needed to load a candidate."""

    backend: str
    precision: str
    artifact: Artifact
    folder: Path
    python: Path | None = None
    """The interpreter of its backend's workers; None for this one."""

    def interpreter(self, stage: Stage) -> Path | None:
        """What ``stage`` of it runs under; None for this interpreter."""
        return self.python if backend(self.backend).runs_apart(stage, self.artifact) else None

    def load(self, contract: Contract, threads: int | None = None) -> Runner:
        """A runner of it in this process, not active yet."""
        return backend(self.backend).load(self.artifact, self.folder, contract, threads)


def describe(folder: Path, candidate: Candidate) -> None:
    """Write what `open_candidate` reads beside the candidate's files."""
    (folder / DESCRIPTION).write_text(candidate.model_dump_json(indent=2, exclude={"folder"}) + "\n")


def described(path: Path) -> Candidate | None:
    """The candidate whose description lies at ``path``, or in a run's folder of a candidate; None where there is none.

    Raises:
        ModelError: the description is damaged.
    """
    for folder in (path, path / MODEL_FOLDER):
        if (folder / DESCRIPTION).is_file():
            try:
                return Candidate(**json.loads((folder / DESCRIPTION).read_text()), folder=folder)
            except (ValueError, TypeError):
                raise ModelError(f"{folder / DESCRIPTION} is damaged: convert the model again") from None
    return None


def open_candidate(path: Path, contract: Contract) -> Candidate:
    """The candidate at ``path``, which answers for the signatures of ``contract``.

    Raises:
        ModelError: nothing there can be run.
        ConfigError: a bare ONNX file cannot say which of several signatures it is.
    """
    found = described(path)
    if found:
        if found.python and not is_executable(found.python):
            raise ModelError(f"{path} was made with {found.python}, which is not there: convert the model again")
        return found
    if path.suffix == ".onnx" and path.is_file():
        if len(contract.signatures) != 1:
            raise ConfigError(f"{path} is one signature and the model has {', '.join(contract.signatures)}: "
                              "give the folder that 'trt-pipeline convert' wrote")
        name = next(iter(contract.signatures))
        return Candidate(backend="onnxruntime", precision="fp32", folder=path.parent,
                         artifact=Artifact(kind="onnx", files={name: path.name}))
    saved_model.check_folder(path)
    folder = path.resolve()
    return Candidate(backend="original", precision="native", folder=folder.parent,
                     artifact=Artifact(kind="savedmodel", files=dict.fromkeys(contract.signatures, folder.name)))
