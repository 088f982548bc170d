"""How much of a signature a backend really took over."""

from __future__ import annotations

from trt_pipeline.frozen import Frozen


class LeftOut(Frozen):
    """Operations of one type that stayed in TensorFlow."""

    op: str
    count: int
    why: str

    def __str__(self) -> str:
        return f"{self.op} x{self.count} ({self.why})"


class Coverage(Frozen):
    """What of one signature runs inside engines.

    Operations are those of the graph as it is executed, without constants and structure; those in the
    body of a loop count once, however often it goes round. ``flops`` are those of matrix products and
    convolutions for one sample, free dimensions counted as 1: good for the share, not as an amount.
    """

    engines: int
    nodes_in_largest: int
    """Nodes of the largest engine, constants included, as TensorRT's own logs count them."""
    operations: int
    operations_in_engines: int
    flops: float
    flops_in_engines: float
    left_out: tuple[LeftOut, ...]

    @property
    def share(self) -> float:
        """Share of the operations that runs in engines."""
        return self.operations_in_engines / self.operations if self.operations else 0.0

    @property
    def flops_share(self) -> float | None:
        """Share of the floating-point work that runs in engines; None where there is none."""
        return self.flops_in_engines / self.flops if self.flops else None

    def __str__(self) -> str:
        parts = [f"{self.engines} engine{'' if self.engines == 1 else 's'}", f"{100 * self.share:.0f} % of operations"]
        if self.flops_share is not None:
            parts.append(f"{100 * self.flops_share:.0f} % of FLOPs")
        return ", ".join(parts)
