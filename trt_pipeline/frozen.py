"""The base of every typed value that passes between stages: immutable, strict, JSON both ways."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from trt_pipeline.errors import InputError


class Frozen(BaseModel):
    """An immutable record. Unknown fields are errors, so a typo never passes for a setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Record = TypeVar("Record", bound=Frozen)


def read(kind: type[Record], file: Path, *, absent: str, outdated: str) -> Record:
    """The record of ``kind`` in ``file``.

    Raises:
        InputError: there is no file, with ``absent`` for a message, or another version wrote it, with ``outdated``
            after the file's name.
    """
    try:
        return kind.model_validate_json(file.read_text())
    except OSError:
        raise InputError(absent) from None
    except ValidationError:
        raise InputError(f"{file} was written by another version: {outdated}") from None
