"""Proof of precision: which operations really compute in the precision that was asked for."""

from __future__ import annotations

from trt_pipeline.frozen import Frozen


class LowPrecision(Frozen):
    """What of a signature computes in ``precision``; nodes by their scoped names (`model.scoped`)."""

    precision: str
    nodes: tuple[str, ...]
    """Operations with a weight (convolutions, matrix products) that compute in it."""
    kept: dict[str, str] = {}
    """Those that stay as they were, each with why."""

    @property
    def share(self) -> float:
        """Share of the operations with a weight that compute in it."""
        total = len(self.nodes) + len(self.kept)
        return len(self.nodes) / total if total else 0.0
