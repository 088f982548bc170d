"""Bounds on the figures of candidates, as options and files say them.

    parity <= 0.01                                      of the candidate that is published for each target
    tensorflow/int8: speedup_latency_p50@1 >= 1.1       of this one, chosen or not
    tensorflow/fp32: ok                                 it has to keep its gate
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from trt_pipeline.errors import ConfigError
from trt_pipeline.figures import Bound
from trt_pipeline.frozen import Frozen
from trt_pipeline.suggest import did_you_mean

CHOSEN = "chosen"
_OK = "ok"
_FILES = (".yaml", ".yml", ".json")
# Nobody writes a gate this large; anything larger is not one.
_LARGEST_BYTES = 2**20


class Requirement(Frozen):
    """One bound, or that a candidate keeps its gate."""

    candidate: str = CHOSEN
    """A candidate's name, or `CHOSEN`: whichever is chosen for a target, or the best of a sweep."""
    bound: Bound | None = None
    """None: the candidate's status has to be ok."""

    def __str__(self) -> str:
        return _OK if self.bound is None else str(self.bound)


def parse(text: str) -> Requirement:
    """The requirement ``[CANDIDATE: ]FIGURE <= VALUE`` or ``CANDIDATE: ok``.

    Raises:
        ConfigError: it is neither, or there is no such figure.
    """
    # A colon without a space belongs to a name: 'tensorflow/int8:wide', 'metric:accuracy'.
    candidate, colon, condition = text.partition(": ")
    return _requirement(candidate.strip() if colon else CHOSEN, (condition if colon else text).strip())


def read(given: Sequence[str]) -> tuple[Requirement, ...]:
    """The requirements of expressions and files, each once.

    A file is YAML or JSON: a list of expressions, or a mapping of a candidate or ``chosen`` to one or several.

    Raises:
        ConfigError: an expression or file cannot be read; one line says which and why.
    """
    found: list[Requirement] = []
    for text in given:
        is_file = text.endswith(_FILES) or Path(text).is_file()
        found += _of_file(Path(text)) if is_file else [parse(text)]
    return tuple(dict.fromkeys(found))


def check_names(requirements: Sequence[Requirement], known: Sequence[str]) -> None:
    """Refuse, before any work, a requirement on a candidate that is not among ``known``.

    Raises:
        ConfigError: names it and the nearest one.
    """
    for one in requirements:
        if one.candidate not in (CHOSEN, *known):
            raise ConfigError(f"the gate names '{one.candidate}', which this run does not have: it has "
                              f"{', '.join(known)}{did_you_mean(one.candidate, known)}")


def _requirement(candidate: str, condition: str) -> Requirement:
    if condition != _OK:
        return Requirement(candidate=candidate, bound=Bound.parse(condition))
    if candidate == CHOSEN:
        raise ConfigError("a gate of 'ok' names its candidate, as in 'tensorflow/fp32: ok': what is chosen always is")
    return Requirement(candidate=candidate)


def _of_file(path: Path) -> list[Requirement]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path} is larger than 1 MiB: that is no gate")
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"the gate {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"{path} is neither YAML nor JSON: {problem}") from None
    if not document:
        raise ConfigError(f"{path} is empty: write expressions such as '- parity <= 0.01'")
    try:
        return list(_of_document(document))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _of_document(document: Any) -> Iterator[Requirement]:
    """Of a list, of a mapping, or of one expression."""
    if isinstance(document, str):
        yield parse(document)
    elif isinstance(document, list):
        for one in document:
            yield from _of_document(one)
    elif isinstance(document, dict):
        # '- tensorflow/int8: parity <= 0.01' is a mapping to YAML.
        for candidate, conditions in document.items():
            for condition in conditions if isinstance(conditions, list) else [conditions]:
                if not isinstance(candidate, str) or not isinstance(condition, str):
                    raise ConfigError(f"'{candidate}: {condition}' is no bound: write '{candidate}: parity <= 0.01'")
                yield _requirement(candidate.strip(), condition.strip())
    else:
        raise ConfigError(f"'{document}' is no bound: write expressions such as 'parity <= 0.01'")
