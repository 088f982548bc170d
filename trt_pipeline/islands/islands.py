"""The nodes of a candidate that stay in float32, and what that gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen
from trt_pipeline.islands.search import Found, Point
from trt_pipeline.suggest import did_you_mean


class SignatureIslands(Frozen):
    """What of one signature stays in float32, and what that gains."""

    nodes: tuple[str, ...]
    """By scoped name (`model.scoped`), the costliest first."""
    of: int = Field(ge=0)
    """How many nodes the candidate has in its precision when none is raised."""
    passed: bool
    """Whether the search found a set that meets the gate."""
    tried: bool = False
    """Whether the candidate itself was converted and run on the validation samples; else it was emulated, on
    those of calibration."""
    before: float
    """Error as a multiple of its bound with nothing raised."""
    after: float | None
    """The same with ``nodes`` raised; None where no set does."""
    curve: tuple[Point, ...] = ()
    """Every set that this search looked at."""
    order: tuple[str, ...] = ()
    """All nodes that could be raised, the costliest first; not kept in the file."""

    @classmethod
    def of_search(cls, found: Found, order: Sequence[str], *, tried: bool) -> SignatureIslands:
        """What a search along the ranking ``order`` came to; with everything raised nothing is left of a candidate."""
        passed = found.passed and len(found.raised) < len(order)
        return cls(nodes=found.raised if passed else (), of=len(order), passed=passed, tried=tried,
                   before=found.before, after=found.after if passed else None, curve=found.curve, order=tuple(order))

    @model_validator(mode="after")
    def _each_once(self) -> SignatureIslands:
        if len(set(self.nodes)) < len(self.nodes):
            raise ValueError("a node is named twice")
        if len(self.nodes) > self.of:
            raise ValueError(f"{len(self.nodes)} nodes of {self.of}")
        return self


class Islands(Frozen):
    """The nodes of one candidate of one model that stay in float32."""

    format: Literal[1] = 1
    candidate: str
    """As in the report, 'onnxruntime/int8'."""
    precision: str
    model_digest: str
    signatures: dict[str, SignatureIslands]

    @property
    def raised(self) -> dict[str, tuple[str, ...]]:
        """Signature -> nodes to leave in float32, as conversions are told."""
        return {name: one.nodes for name, one in self.signatures.items() if one.nodes}

    @property
    def passed(self) -> bool:
        """Whether every signature meets its gate in emulation."""
        return all(one.passed for one in self.signatures.values())

    def check(self, known: Mapping[str, frozenset[str]], file: Path) -> None:
        """Raise InputError where ``file`` names a signature, or a node of one, that is not among ``known``."""
        for signature, one in self.signatures.items():
            if signature not in known:
                raise InputError(f"{file}: the model has no signature {signature}{did_you_mean(signature, known)}")
            if missing := [node for node in one.nodes if node not in known[signature]]:
                raise InputError(f"{file}: signature {signature} has no node {missing[0]}"
                                 f"{did_you_mean(missing[0], known[signature])}")
