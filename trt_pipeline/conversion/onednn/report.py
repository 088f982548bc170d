"""What became int8 and what did not, while a graph is rewritten."""

from __future__ import annotations

from dataclasses import dataclass, field

from trt_pipeline.model.low_precision import LowPrecision


@dataclass
class Report:
    """Nodes by their scoped names."""

    raised: frozenset[str]
    nodes: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def finished(self) -> LowPrecision:
        """As the pipeline's own record."""
        return LowPrecision(precision="int8", nodes=tuple(self.nodes), kept=self.kept)
