"""The cheapest cut is found, by comparison with all cuts there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tensorflow.core.framework import graph_pb2

from trt_pipeline.conversion.split import flow
from trt_pipeline.conversion.split.wiring import Wiring
from trt_pipeline.errors import Unsupported

FIRST, LAST = ("first0", "first1"), ("last0", "last1")


def wired(edges: dict[str, list[str]]) -> Wiring:
    """A graph of what reads what, as sums."""
    graph_def = graph_pb2.GraphDef()
    for name, sources in edges.items():
        node = graph_def.node.add(name=name, op="AddN" if sources else "Placeholder", input=sources)
        node.attr["N"].i = len(sources)
    return Wiring(graph_def, edges)


def cost_of(wiring: Wiring, moved: set[str], free: list[str], costs: dict[str, int]) -> float:
    """What crosses; infinite where something goes to the first side and what it needs does not."""
    early = moved | set(FIRST)
    if any(source in free and source not in early for name in early for source, _ in wiring.reads(name)):
        return float("inf")
    if any(source in LAST for name in early for source, _ in wiring.reads(name)):
        return float("inf")
    return sum(costs[name] for name in early if any(reader not in early for reader in wiring.readers[name]))


@pytest.mark.parametrize("seed", range(25))
def test_against_all_cuts(seed: int) -> None:
    random = np.random.default_rng(seed)
    free = [f"n{number}" for number in range(7)]
    edges: dict[str, list[str]] = {"x": [], "first0": ["x"], "first1": ["first0"]}
    for name in [*free, *LAST]:
        known = [one for one in edges if one not in ("x", *LAST)]
        edges[name] = sorted(random.choice(known, size=int(random.integers(1, 4))).tolist())
    wiring = wired(edges)
    costs = {name: int(random.integers(1, 9)) for name in edges}
    every = {frozenset(some): cost_of(wiring, set(some), free, costs)
             for size in range(len(free) + 1) for some in itertools.combinations(free, size)}
    cheapest = [some for some, cost in every.items() if cost == min(every.values())]
    for most_last in (True, False):
        moved = flow.cut(wiring, FIRST, LAST, free, lambda tensor: costs[tensor[0]], most_last=most_last)
        assert every[frozenset(moved)] == min(every.values())
        best = min if most_last else max
        assert len(moved) == len(best(cheapest, key=len))


def test_what_goes_in_circles_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"it has a loop of TensorFlow 1 \(a\)"):
        wired({"x": [], "a": ["x", "b"], "b": ["a"]})
