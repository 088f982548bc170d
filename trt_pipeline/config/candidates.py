"""What a configuration or a sweep says of one candidate, and which there are by default."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from trt_pipeline.backends import BACKENDS
from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.suggest import did_you_mean


class CandidateSpec(Frozen):
    """One way to convert a model: backend x precision x options. ``backend/precision[:label]`` is short for one."""

    backend: str
    precision: str
    label: str = Field("", pattern="^[A-Za-z0-9_.-]{0,64}$")
    """Tells candidates of one backend and precision apart."""
    options: dict[str, JsonValue] = {}
    """Added to those that the configuration gives the backend."""
    batch_sizes: tuple[int, ...] | None = None
    """Batch sizes to time it at; the configuration's by default. That of the objective is always timed."""
    islands: Path | None = None
    """A file of the nodes that stay in float32, as `islands.pinned` of a configuration."""

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return dict(zip(("backend", "precision", "label"), _parts(given), strict=True))

    @model_validator(mode="after")
    def _known(self) -> CandidateSpec:
        check_candidate(self.backend, self.precision)
        if self.batch_sizes is not None and (not self.batch_sizes or min(self.batch_sizes) < 1):
            raise ValueError("batch sizes are whole numbers from 1 on")
        return self

    @model_serializer(mode="wrap")
    def _short_again(self, full: SerializerFunctionWrapHandler) -> Any:
        known = {key: value for key, value in full(self).items() if value not in ({}, None)}
        return self.name if known.keys() <= {"backend", "precision", "label"} else known

    def timed_at(self, usual: tuple[int, ...], objective: int) -> tuple[int, ...]:
        """The batch sizes that it is timed at, where others are at the ``usual`` ones; the objective's always."""
        return usual if self.batch_sizes is None else tuple(sorted({*self.batch_sizes, objective}))

    @property
    def name(self) -> str:
        """``backend/precision``, with ``:label`` where there is one."""
        return f"{self.backend}/{self.precision}" + (f":{self.label}" if self.label else "")


def precision_of(name: str) -> str:
    """The precision in a candidate's name ``backend/precision[:label]``; empty where it names none."""
    return _parts(name)[1]


def _parts(name: str) -> tuple[str, str, str]:
    """Backend, precision and label of a candidate's name; what it lacks is empty."""
    backend, _, rest = name.partition("/")
    precision, _, label = rest.partition(":")
    return backend, precision, label


def check_candidate(backend: str, precision: str) -> None:
    """Raise ValueError unless there is such a backend and it has that precision."""
    check_backend(backend)
    known = BACKENDS[backend][2]
    if precision not in known:
        raise ValueError(f"backend {backend} has no precision '{precision}': it has {', '.join(known)}"
                         f"{did_you_mean(precision, known)}")


def check_backend(name: str) -> str:
    """``name``, if there is such a backend. Raises ValueError otherwise."""
    if name not in BACKENDS:
        raise ValueError(f"no backend '{name}': there are {', '.join(BACKENDS)}{did_you_mean(name, BACKENDS)}")
    return name


def check_name(name: str) -> str:
    """``name``, if it is one that a candidate can have. Raises ValueError otherwise."""
    if re.fullmatch("[^/]*/[^:]*(:[A-Za-z0-9_.-]{1,64})?", name) is None:
        raise ValueError(f"'{name}' is no candidate: write BACKEND/PRECISION")
    check_candidate(*_parts(name)[:2])
    return name


def candidates_of(backends: Iterable[str], precisions: Iterable[str]) -> tuple[CandidateSpec, ...]:
    """Every candidate that there is without a label, limited to the names given (empty: no limit).

    Raises:
        ConfigError: a name is unknown, or no candidate is left.
    """
    backends, precisions = tuple(backends), tuple(precisions)
    check_limits(backends, precisions)
    found = tuple(CandidateSpec(backend=name, precision=precision) for name, (_, _, has) in BACKENDS.items()
                  for precision in has if name != "original" and (not backends or name in backends)
                  and (not precisions or precision in precisions))
    if not found:
        raise ConfigError(f"no backend of {', '.join(backends) or 'all'} has precision {', '.join(precisions)}")
    return found


def check_limits(backends: Iterable[str], precisions: Iterable[str]) -> None:
    """Raise ConfigError where a backend or precision does not exist."""
    known = sorted({p for _, _, ps in BACKENDS.values() for p in ps})
    try:
        for name in backends:
            check_backend(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for precision in precisions:
        if precision not in known:
            raise ConfigError(f"no precision '{precision}': there are {', '.join(known)}"
                              f"{did_you_mean(precision, known)}")
