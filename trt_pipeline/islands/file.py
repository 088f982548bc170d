"""The islands file: which nodes of a candidate stay in float32, as YAML that people read and a config pins."""

from __future__ import annotations

import math
from pathlib import Path

import yaml
from pydantic import ValidationError

from trt_pipeline import files
from trt_pipeline.errors import InputError, OutputError
from trt_pipeline.islands.islands import Islands


def write(file: Path, islands: Islands) -> None:
    """Write ``islands`` to ``file``, one node a line; there is never half a file.

    Raises:
        OutputError: it cannot be written.
    """
    content = islands.model_dump(mode="json", exclude={"signatures": {"__all__": {"order"}}})
    for name, one in islands.signatures.items():
        content["signatures"][name] |= {
            "before": _short(one.before), "after": None if one.after is None else _short(one.after),
            "curve": [_Flow(raised=p.raised, distance=_short(p.distance), passed=p.passed) for p in one.curve]}
    try:
        files.write_whole(file, yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=math.inf).encode())
    except OSError as error:
        raise OutputError(f"the islands file {file} cannot be written: {error.strerror}") from None


def read(file: Path, model_digest: str, candidate: str | None = None) -> Islands:
    """The islands file ``file`` of the model with this digest, and of ``candidate`` where one is given.

    Raises:
        InputError: it cannot be read, or was made for another model or candidate.
    """
    try:
        content = yaml.safe_load(file.read_text())
        known = Islands.model_validate(content)
    except OSError as error:
        raise InputError(f"the islands file {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{file} is no islands file: {where}: {first['msg']}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(f"{file} is no islands file: it is not YAML") from None
    if known.model_digest != model_digest:
        raise InputError(f"{file} was made for another model: its nodes mean nothing to this one; "
                         "take it out of islands.pinned to search anew")
    if candidate is not None and known.candidate != candidate:
        raise InputError(f"{file} holds the islands of {known.candidate}, not of {candidate}")
    return known


def _short(number: float) -> float:
    """``number`` in as many digits as anyone reads."""
    return float(f"{number:.4g}")


class _Flow(dict[str, object]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes `_Flow` on one line."""


_Dumper.add_representer(_Flow, lambda dumper, value: dumper.represent_mapping(
    "tag:yaml.org,2002:map", value, flow_style=True))
