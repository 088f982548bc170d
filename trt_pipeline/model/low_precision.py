"""Proof of precision: which operations really compute in the precision that was asked for."""

from __future__ import annotations

from collections import Counter

from trt_pipeline.frozen import Frozen


class LowPrecision(Frozen):
    """What of a signature computes in ``precision``; nodes by their scoped names (`model.scoped`)."""

    precision: str
    nodes: tuple[str, ...]
    """Operations with a weight (convolutions, matrix products) that compute in it."""
    kept: dict[str, str] = {}
    """Those that stay as they were, each with why."""
    others: dict[str, str] = {}
    """Operations without a weight that stay in float32 where the rest of the graph does not, each with why."""
    executed: int | None = None
    """How many of ``nodes`` the machine that converted it computes in ``precision``; None where it is all."""

    @property
    def share(self) -> float:
        """Share of the operations with a weight that compute in it."""
        total = len(self.nodes) + len(self.kept)
        return len(self.nodes) / total if total else 0.0

    def __str__(self) -> str:
        total = len(self.nodes) + len(self.kept)
        text = f"{len(self.nodes)} of {total} operations with a weight ({self.share:.0%})"
        reasons = Counter(self.kept.values()).most_common()
        text += "".join(f"; {count} in float32: {why}" for why, count in reasons[:3])
        if self.executed is not None and self.executed < len(self.nodes):
            text += (f"; this machine computes {self.executed} of them in it and the rest in float32, so that is "
                     "what it was judged by")
        return text
