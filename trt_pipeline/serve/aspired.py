"""Which versions of a model should be loaded, and which step comes next on the way there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Literal, NamedTuple

from trt_pipeline.serve.models_config import Latest, ModelConfig, Specific
from trt_pipeline.serve.version_folders import versions_below


class State(IntEnum):
    """Where a version stands, as ``ModelVersionStatus.State``."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Standing(NamedTuple):
    """One version: whether it should be loaded, and where it stands."""

    version: int
    aspired: bool
    state: State


class Action(NamedTuple):
    """What to do with one version."""

    what: Literal["load", "unload"]
    version: int


def aspired(model: ModelConfig) -> dict[int, Path] | None:
    """Version -> its folder, of those that the model's policy asks for; None when its base path cannot be read."""
    found = versions_below(model.base_path)
    if found is None:
        return None
    if isinstance(model.policy, Latest):
        return _only(found, sorted(found)[-model.policy.versions:])
    if isinstance(model.policy, Specific):
        return _only(found, model.policy.versions)
    return found


def next_action(standings: Iterable[Standing]) -> Action | None:
    """The next step of one model, or None when there is nothing to do.

    As TensorFlow Serving's AvailabilityPreservingPolicy: the last version that answers goes only once one that should
    be loaded answers in its place; of those to load the newest comes first, of those to unload the oldest.
    """
    known = list(standings)
    answering = [s for s in known if s.state == State.AVAILABLE]
    superfluous = [s.version for s in answering if not s.aspired]
    replaced = any(s.aspired for s in answering) or not any(s.aspired for s in known)
    if superfluous and (replaced or len(superfluous) > 1):
        return Action("unload", min(superfluous))
    waiting = [s.version for s in known if s.aspired and s.state == State.START]
    return Action("load", max(waiting)) if waiting else None


def _only(found: Mapping[int, Path], wanted: Iterable[int]) -> dict[int, Path]:
    return {version: found[version] for version in wanted if version in found}
