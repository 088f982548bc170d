"""The smallest and the largest value of every tensor of a graph, as calibration would find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.calibration.ranges import Range
from trt_pipeline.calibration.taps import Listener, Tapped, float_tensors
from trt_pipeline.conversion.freeze import SignatureGraph


def extents(graph: SignatureGraph, samples: Iterable[Mapping[str, npt.NDArray[Any]]]) -> dict[str, Range]:
    """Run ``graph`` on ``samples``; smallest and largest value by scoped tensor name."""
    seen: dict[str, Range] = {}

    def listener(name: str) -> Listener:
        def listen(value: npt.NDArray[Any]) -> None:
            if value.size:
                low, high = seen.get(name, (np.inf, -np.inf))
                seen[name] = min(low, float(value.min())), max(high, float(value.max()))
        return listen

    tapped = Tapped(graph, {name: listener(name) for _, _, name in float_tensors(graph.graph_def)})
    for feeds in samples:
        tapped(feeds)
    return seen
