"""Which versions of a model TensorFlow Serving is to load, and which version each label names.

The server applies a new configuration in an order that has traps, and these rules keep clear of them (2.14.1,
server_core.cc): labels are moved first, a label that exists moves only to a version that is loaded already, and where
one cannot move nothing else of the file is applied. But new versions on disk are loaded without the file, by ``latest``
and ``all``.

- ``latest`` reaches back to the oldest version that has a label, and where there are labels one more stays loaded: the
  newest version must not push out one that is named until the file, read later, has moved the name.
- A label that would move to a version which servers have not been told to load stays where it is for one publication,
  and the file has the version loaded in the meantime (``held``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from trt_pipeline.config.schema import Latest, Specific, VersionSettings
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen


class VersionPolicy(Frozen):
    """What models.config says of one model's versions."""

    kind: Literal["all", "latest", "specific"]
    number: int = 0
    """How many, of the newest."""
    specific: tuple[int, ...] = ()
    labels: dict[str, int] = {}
    held: dict[str, int] = {}
    """Label -> the version that it is to name once servers have loaded that."""
    served: tuple[int, ...]
    """What servers load of the versions on disk, ascending."""

    @property
    def most(self) -> int:
        """How many versions may be loaded at once, a new one that comes included."""
        return max(self.number, len(self.served)) if self.kind == "latest" else len(self.served) + 1


def check(settings: VersionSettings, name: str, existing: Sequence[int]) -> None:
    """Refuse, before any work, versions that there are not and that the next publication does not make.

    Raises:
        ConfigError: names what asks for the version, and those that there are.
    """
    known = {*existing, existing[-1] + 1 if existing else 1}
    chosen = settings.serve.specific if isinstance(settings.serve, Specific) else ()
    named = [("versions.serve.specific", version) for version in chosen]
    named += [(f"label {label}", value) for label, value in settings.labels.items() if isinstance(value, int)]
    for what, version in named:
        if version not in known:
            listed = ", ".join(map(str, existing)) or "none yet"
            raise ConfigError(f"{what} names version {version} of {name}, which is not published: there are {listed}")
        if chosen and version not in chosen:
            raise ConfigError(f"{what} names version {version} of {name}, which versions.serve.specific leaves out: "
                              "add it there")


def resolve(settings: VersionSettings, name: str, existing: Sequence[int],
            before: VersionPolicy | None = None) -> VersionPolicy:
    """The policy for the versions ``existing``, ascending.

    Args:
        before: what servers were told last.

    Raises:
        ConfigError: a version is named that there is not.
    """
    chosen = settings.serve.specific if isinstance(settings.serve, Specific) else ()
    pool = [version for version in existing if not chosen or version in chosen]
    if not pool:
        raise ConfigError(f"versions.serve.specific leaves nothing of {name} to serve: there are "
                          f"{', '.join(map(str, existing))}")
    meant = {label: _meant(value, pool) for label, value in settings.labels.items()}
    for label, version in meant.items():
        if version not in pool:
            raise ConfigError(f"label {label} names version {version} of {name}, which is not served: there are "
                              f"{', '.join(map(str, pool))}")
    labels, held = _moved(meant, before, existing)
    named = {*meant.values(), *labels.values()}
    if chosen:
        served = tuple(sorted({*pool, *named}))
        return VersionPolicy(kind="specific", specific=served, labels=labels, held=held, served=served)
    if not isinstance(settings.serve, Latest):
        return VersionPolicy(kind="all", labels=labels, held=held, served=tuple(existing))
    back = len([version for version in existing if version >= min(named)]) if named else 0
    number = max(settings.serve.latest, back) + bool(labels)
    return VersionPolicy(kind="latest", number=number, labels=labels, held=held, served=tuple(existing[-number:]))


def _meant(value: str | int, pool: Sequence[int]) -> int:
    if isinstance(value, int):
        return value
    return pool[-2] if value == "previous" and len(pool) > 1 else pool[-1]


def _moved(meant: dict[str, int], before: VersionPolicy | None,
           existing: Sequence[int]) -> tuple[dict[str, int], dict[str, int]]:
    """The labels as servers can be given them, and those that have to wait."""
    held = {}
    for label, version in meant.items():
        old = before.labels.get(label) if before else None
        if before and old is not None and old != version and old in existing and not _loaded(version, before):
            held[label] = version
    assert before or not held
    return {label: before.labels[label] if before and label in held else version
            for label, version in meant.items()}, held


def _loaded(version: int, before: VersionPolicy) -> bool:
    """Whether servers load ``version`` by what they were told last."""
    return version in before.served or (before.kind != "specific" and version > max(before.served, default=0))
