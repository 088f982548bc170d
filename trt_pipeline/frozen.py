"""The base of every typed value that passes between stages: immutable, strict, JSON both ways."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable record. Unknown fields are errors, so a typo never passes for a setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")
