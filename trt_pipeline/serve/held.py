"""What a server holds of each model: its versions, where they stand, and which labels name them.

Nothing here is thread-safe or touches a file: `store.ModelStore` has the lock and does the work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trt_pipeline.serve.aspired import State
from trt_pipeline.serve.models_config import ServerConfig
from trt_pipeline.serve.refusal import Code, RefusalError, invalid

if TYPE_CHECKING:
    from trt_pipeline.serve.servable import Servable

_log = logging.getLogger(__name__)


class Spec(NamedTuple):
    """What a request names: a model, and a version or a label of it, else its newest version that answers."""

    name: str
    version: int | None = None
    label: str | None = None


class VersionState(NamedTuple):
    """Where a version stands; ``code`` is 0, or that of the error that ended it."""

    version: int
    state: State
    code: int
    message: str


@dataclass(eq=False)
class Version:
    """One version, loaded or not. ``leases`` counts the requests that are running on it."""

    folder: Path
    state: State = State.START
    aspired: bool = True
    code: int = 0
    message: str = ""
    leases: int = 0
    servable: Servable | None = None
    seen: frozenset[tuple[str, int, int]] = frozenset()
    """What the folder held when it was loaded."""


@dataclass(eq=False)
class Model:
    """The versions of one model, past ones included, and the labels in force."""

    versions: dict[int, Version] = field(default_factory=dict)
    newest: int | None = None
    """Of those that answer."""
    labels: dict[str, int] = field(default_factory=dict)

    def answers(self, version: int) -> bool:
        """Whether requests may run on ``version``."""
        known = self.versions.get(version)
        return known is not None and known.state == State.AVAILABLE


class Held:
    """All models that have ever been asked for."""

    def __init__(self, config: ServerConfig, any_labels: bool) -> None:
        """
        Args:
            any_labels: a new label may name a version that does not answer.
        """
        self._any_labels = any_labels
        self.models: dict[str, Model] = {}
        self.take_over(config)

    def take_over(self, config: ServerConfig) -> None:
        """Put ``config`` in force, as far as that needs no loading."""
        self.config = config
        for model in config.models:
            self.models.setdefault(model.name, Model())
        for name in self.models:
            self._label(name)

    def find(self, spec: Spec) -> Version:
        """The version that ``spec`` names. Raises RefusalError as `ModelStore.lease`."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self.models.get(spec.name, Model())
        version = spec.version
        if spec.label is not None:
            if spec.label not in model.labels:
                raise invalid(f"Unrecognized servable version label: {spec.label}")
            version = model.labels[spec.label]
        number = model.newest if version is None else version
        if number is None or not model.answers(number):
            asked = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise RefusalError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
        return model.versions[number]

    def states(self, name: str, version: int | None) -> list[VersionState]:
        """As `ModelStore.states`."""
        known = self.models.get(name, Model()).versions
        wanted = sorted(known, reverse=True) if version is None else [version]
        found = [VersionState(n, known[n].state, known[n].code, known[n].message) for n in wanted if n in known]
        if not found:
            what = "any versions" if version is None else f"version {version}"
            raise RefusalError(Code.NOT_FOUND, f"Could not find {what} of model {name}")
        return found

    def turn(self, name: str, number: int, state: State) -> None:
        """Put a version into ``state``, and what depends on it in order in the same moment."""
        model = self.models[name]
        model.versions[number].state = state
        model.newest = max((n for n in model.versions if model.answers(n)), default=None)
        self._label(name)
        _log.info("model %s version %d: %s", name, number, state.name)

    def drained(self) -> list[tuple[str, int, Version]]:
        """Name, number and version of those that are to go and that no request holds any more."""
        return [(name, number, version) for name, model in self.models.items()
                for number, version in model.versions.items()
                if version.state == State.UNLOADING and not version.leases]

    def unavailable_labels(self, config: ServerConfig) -> list[str]:
        """For each label of ``config`` that may not name its version now, why."""
        return [f"Request to assign label to version {number} of model {model.name}, which is not currently available "
                "for inference"
                for model in config.models for label, number in model.labels.items()
                if not self._allowed(self.models.get(model.name, Model()), label, number)]

    def failed(self, names: Iterable[str]) -> list[tuple[str, int, Version]]:
        """Every version of those models of ``names`` that have none that answers."""
        return [(name, number, version) for name in names if self.models[name].newest is None
                for number, version in sorted(self.models[name].versions.items())]

    def _allowed(self, model: Model, label: str, number: int) -> bool:
        return model.answers(number) or (self._any_labels and model.labels.get(label, number) == number)

    def _label(self, name: str) -> None:
        """Give every label that is asked for its version as soon as that answers; until then it keeps its old one."""
        model, config = self.models[name], self.config.model(name)
        labels = {}
        for label, number in (config.labels if config else {}).items():
            if self._allowed(model, label, number):
                labels[label] = number
            elif label in model.labels:
                labels[label] = model.labels[label]
        model.labels = labels
