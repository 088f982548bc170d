"""Tiny nets, rewritten, and what int8 is to make of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.measured import extents
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.calibration.taps import Tapped
from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onednn.availability import why_not
from trt_pipeline.conversion.onednn.rewrite import rewrite
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.nodes import every_node

Array = np.ndarray


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if why := why_not():
        for item in items:
            if here in item.path.parents and "availability" not in item.path.name:
                item.add_marker(pytest.mark.skip(reason=why))


@dataclass
class Net:
    """A net as it was, measured, and in int8."""

    original: SignatureGraph
    ranges: SignatureRanges
    graph: SignatureGraph
    low: LowPrecision

    @property
    def ops(self) -> Counter[str]:
        return Counter(node.op for node in every_node(self.graph.graph_def))

    def before(self, **feeds: Array) -> dict[str, Array]:
        return _run(self.original, feeds)

    def after(self, **feeds: Array) -> dict[str, Array]:
        return _run(self.graph, feeds)

    def again(self, raised: set[str] = frozenset(), ranges: SignatureRanges | None = None) -> Net:
        return Net(self.original, self.ranges, *rewrite(self.original, ranges or self.ranges, frozenset(raised)))

    def range(self, ending: str) -> tuple[float, float]:
        return next(found for name, found in self.ranges.extents.items() if name.endswith(ending))


def _run(graph: SignatureGraph, feeds: dict[str, Array]) -> dict[str, Array]:
    tapped = Tapped(graph, {})
    return tapped(feeds)


@pytest.fixture
def net(tmp_path: Path) -> Any:
    """Rewrites a function of one float input ``x``, measured on the samples given."""

    def make(function: Any, shape: list[int | None], *samples: Array) -> Net:
        signature = [tf.TensorSpec(shape, tf.float32, name="x")]
        module = tf.Module()
        module.serve = tf.function(lambda x: _named(function(x)), input_signature=signature)
        tf.saved_model.save(module, str(tmp_path / "net"), signatures={"serving_default": module.serve})
        loaded = tf.saved_model.load(str(tmp_path / "net"))
        graph = canonical.canonical(loaded.signatures["serving_default"])
        ranges = _measured(graph, [{"x": sample} for sample in samples])
        return Net(graph, ranges, *rewrite(graph, ranges))

    return make


def _named(result: Any) -> dict[str, Any]:
    return result if isinstance(result, dict) else {"y": result}


@pytest.fixture(scope="session")
def measured() -> Any:
    """Ranges of a graph on one batch."""
    return lambda graph, feeds: _measured(graph, [feeds])


def _measured(graph: SignatureGraph, samples: list[dict[str, Array]]) -> SignatureRanges:
    """Smallest and largest value of every tensor."""
    return SignatureRanges(ranges={}, extents=extents(graph, samples))


class Emulated:
    """int8 as numpy computes it."""

    @staticmethod
    def unsigned(x: Array, low: float, high: float) -> Array:
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / 255
        return np.clip(np.rint((x - low) / step), 0, 255) * step + low

    @staticmethod
    def signed(x: Array, low: float, high: float) -> Array:
        step = max(abs(low), abs(high)) / 127
        return np.clip(np.rint(x / step), -128, 127) * step

    @staticmethod
    def weight(w: Array, per_channel: bool = False) -> Array:
        step = np.abs(w).max(axis=tuple(range(w.ndim - 1)) if per_channel else None) / 127
        return np.rint(w / step) * step


@pytest.fixture
def emulated() -> type[Emulated]:
    return Emulated
