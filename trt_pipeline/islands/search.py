"""Find the smallest set of nodes to raise, by trying sets; it knows nothing of graphs.

Errors of several nodes may cancel or add up, so a larger set may fail where a smaller one passed.
Nothing here relies on the contrary: a set is only returned if it was evaluated and passed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence

from trt_pipeline.frozen import Frozen
from trt_pipeline.islands.gate import Judged

Evaluate = Callable[[frozenset[str]], Judged]


class Point(Frozen):
    """One evaluation of the curve."""

    raised: int
    distance: float
    passed: bool


class Found(Frozen):
    """What a search came to."""

    passed: bool
    raised: tuple[str, ...]
    """The smallest set that passed, the costliest nodes first; where none did, the one nearest to passing."""
    before: float
    """Distance with nothing raised."""
    after: float
    """Distance with ``raised`` raised."""
    curve: tuple[Point, ...]
    """Every evaluation, in the order in which they were made."""


def search(nodes_by_cost: Sequence[str], evaluate: Evaluate, budget: int, *,
           kept: Collection[str] = ()) -> Found:
    """Find a small set of nodes that makes ``evaluate`` pass.

    Nothing and everything are tried first; then, along the ranking, 1, 2, 4, ... nodes until it passes,
    and bisection for the shortest beginning of the ranking that does. From that, subsets are taken
    away, of half its size down to single nodes, for as long as it goes on passing.

    Args:
        nodes_by_cost: what can be raised, the costliest first.
        evaluate: judges a set of raised nodes.
        budget: the most evaluations, at least 2.
        kept: nodes that are raised in every set but the empty one.
    """
    order = [*(node for node in nodes_by_cost if node in kept), *(node for node in nodes_by_cost if node not in kept)]
    return _Search(order, evaluate, budget, frozenset(order) & frozenset(kept)).run()


class Counting:
    """Evaluations of all signatures, as one progress."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def step(self) -> None:
        """One more was made."""
        self._done += 1
        self._progress(min(self._done, self._total), self._total)


class _OutOfBudget(Exception):
    """No evaluation is left."""


class _Search:
    def __init__(self, order: list[str], evaluate: Evaluate, budget: int, kept: frozenset[str]) -> None:
        if budget < 2:
            raise ValueError("a search takes at least 2 evaluations: nothing raised, and everything")
        self._order, self._evaluate, self._budget = order, evaluate, budget
        self._kept = kept
        self._known: dict[frozenset[str], Judged] = {}

    def run(self) -> Found:
        nothing, everything = frozenset[str](), frozenset(self._order)
        if self._passes(nothing) and self._allowed(nothing):
            return self._found(nothing)
        if not self._order or not self._passes(everything):
            return self._found(min(self._known, key=lambda tried: (self._known[tried].distance, len(tried))))
        with contextlib.suppress(_OutOfBudget):
            self._minimise(self._shortest_beginning())
        return self._found(self._best())

    def _best(self) -> frozenset[str]:
        """The smallest set that passed; of two of one size, the one further from the bound."""
        passing = [tried for tried in self._known if self._known[tried].passed and self._allowed(tried)]
        return min(passing, key=lambda tried: (len(tried), self._known[tried].distance))

    def _shortest_beginning(self) -> list[str]:
        """The shortest beginning of the ranking that passes, as far as doubling and bisection find it."""
        tried = smallest = max(len(self._kept), 1)
        failing, passing = smallest - 1, len(self._order)
        while tried < passing:
            if self._passes(self._beginning(tried)):
                passing = tried
                break
            failing, tried = tried, smallest - 1 + 2 * (tried - smallest + 1)
        while passing - failing > 1:
            middle = (passing + failing) // 2
            if self._passes(self._beginning(middle)):
                passing = middle
            else:
                failing = middle
        return self._order[:passing]

    def _minimise(self, raised: list[str]) -> None:
        """Take subsets away from ``raised``, the cheap end of the ranking first, until no single node can go."""
        size = max(1, len(raised) // 2)
        while True:
            before = len(raised)
            for start in reversed(range(0, before, size)):
                # Chunks are cut from the end, so those before have not moved.
                left = [node for number, node in enumerate(raised)
                        if not start <= number < start + size or node in self._kept]
                if len(left) < len(raised) and self._allowed(left) and self._passes(frozenset(left)):
                    raised = left
            if size == 1 and len(raised) == before:
                return
            size = max(1, min(size, len(raised)) // 2)

    def _beginning(self, count: int) -> frozenset[str]:
        return frozenset(self._order[:count])

    def _allowed(self, raised: Collection[str]) -> bool:
        return self._kept <= frozenset(raised)

    def _passes(self, raised: frozenset[str]) -> bool:
        if raised not in self._known:
            if len(self._known) >= self._budget:
                raise _OutOfBudget
            self._known[raised] = self._evaluate(raised)
        return self._known[raised].passed

    def _found(self, raised: frozenset[str]) -> Found:
        points = tuple(Point(raised=len(tried), distance=judged.distance, passed=judged.passed)
                       for tried, judged in self._known.items())
        return Found(passed=self._known[raised].passed and self._allowed(raised),
                     raised=tuple(node for node in self._order if node in raised),
                     before=self._known[frozenset()].distance, after=self._known[raised].distance, curve=points)
