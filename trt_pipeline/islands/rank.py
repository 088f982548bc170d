"""One sweep over the nodes: what the low precision of each of them alone costs the outputs."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import canonical, halves
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.frozen import Frozen
from trt_pipeline.islands.gate import Judged
from trt_pipeline.model.scoped import Scope, scopes_of

Progress = Callable[[int, int], None]
# Judges the candidate with this set of nodes low, and all others in float32.
OnlyLow = Callable[[frozenset[str]], Judged]


class Cost(Frozen):
    """What one node in low precision, with all others in float32, does to the outputs."""

    node: str
    distance: float
    """As `gate.Judged.distance`; of its group, where nodes were only tried in groups."""
    snr_db: dict[str, float]
    """Output -> signal to noise ratio."""
    noise: float = 0.0
    """As `gate.Judged.noise`."""

    @property
    def worst_db(self) -> float:
        """The lowest signal to noise ratio of any output."""
        return min(self.snr_db.values(), default=0.0)

    @property
    def order(self) -> tuple[float, float, float]:
        """What to sort by, so that the costliest come first.

        The noise of a typical sample tells nodes apart on a few samples already; what flips (tokens,
        classes) and the samples that it flips in are chance there.
        """
        return -self.noise, self.worst_db, -self.distance


def rank(nodes: Sequence[str], only_low: OnlyLow, evaluations: int, first: Sequence[str] = (),
         progress: Progress = lambda done, total: None) -> list[Cost]:
    """The nodes from the most to the least costly.

    They are ordered by `Cost.order`. Where there are more nodes than ``evaluations``, groups of neighbours
    are tried, and the most costly group is split in two for as long as evaluations are left.

    Args:
        nodes: in the order of the graph.
        first: nodes to put before all others that cost as much, the worst first (`out_of_reach`).
    """
    groups = _groups(nodes, evaluations, first)
    total = min(evaluations, len(nodes))
    done = 0

    def judged(group: tuple[str, ...]) -> Cost:
        nonlocal done
        found = only_low(frozenset(group))
        done += 1
        progress(done, total)
        return Cost(node=group[0], distance=found.distance, snr_db=found.snr_db, noise=found.noise)

    # Worst first; the number only keeps equal ones in order.
    waiting = [((cost := judged(group)).order, number, group, cost)
               for number, group in enumerate(groups)]
    heapq.heapify(waiting)
    number = len(waiting)
    single: list[tuple[tuple[str, ...], Cost]] = []
    while waiting and done + 2 <= total:
        *_, group, cost = heapq.heappop(waiting)
        if len(group) == 1:
            single.append((group, cost))
            continue
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            cost = judged(half)
            heapq.heappush(waiting, (cost.order, number, half, cost))
            number += 1
    single += [(group, cost) for *_, group, cost in waiting]
    places = {node: place for place, node in enumerate([*first, *(node for node in nodes if node not in first)])}
    costs = [cost.model_copy(update={"node": node}) for group, cost in single for node in group]
    return sorted(costs, key=lambda cost: (cost.order, places[cost.node]))


def out_of_reach(graph: SignatureGraph, ranges: SignatureRanges, precision: str,
                 nodes: Sequence[str]) -> tuple[str, ...]:
    """Those of ``nodes`` that read or make a number that ``precision`` cannot hold, the largest number first.

    Empty for int8, which saturates.
    """
    largest = halves.LARGEST.get(precision)
    if largest is None:
        return ()
    extents, wanted, found = ranges.extents, set(nodes), {}
    for scope in scopes_of(graph.graph_def):
        made: dict[str, float] = {}
        for tensor, (low, high) in extents.items():
            if tensor.startswith(scope.path):
                node = tensor.removeprefix(scope.path).rpartition(":")[0]
                made[node] = max(made.get(node, 0.0), abs(low), abs(high))
        for node in scope.nodes:
            if (name := scope.node(node.name)) in wanted:
                sizes = [made.get(node.name, 0.0), *(_size(scope, source, extents) for source in node.input)]
                if max(sizes) > largest:
                    found[name] = max(sizes)
    return tuple(sorted(found, key=lambda name: -found[name]))


def _size(scope: Scope, source: str, extents: dict[str, tuple[float, float]]) -> float:
    """The largest magnitude of what is read from ``source``."""
    if source.startswith("^"):
        return 0.0
    constant = canonical.constant(scope, source)
    if constant is not None:
        return float(abs(constant).max(initial=0)) if constant.dtype.kind == "f" else 0.0
    low, high = extents.get(scope.tensor(source), (0.0, 0.0))
    return max(abs(low), abs(high))


def _groups(nodes: Sequence[str], evaluations: int, first: Sequence[str]) -> list[tuple[str, ...]]:
    """All nodes one by one where that can be afforded; else ``first`` one by one, and the others in groups."""
    if len(nodes) <= evaluations:
        return [(node,) for node in nodes]
    alone: list[tuple[str, ...]] = [(node,) for node in first[:evaluations // 2]]
    taken = set(first[:evaluations // 2])
    rest = [node for node in nodes if node not in taken]
    # Half of what is left finds the costly groups, the other half looks into them.
    count = max(1, (evaluations - len(alone)) // 2)
    size = -(-len(rest) // count)
    return alone + [tuple(rest[start:start + size]) for start in range(0, len(rest), size)]
