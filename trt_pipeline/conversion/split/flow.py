"""The cheapest place to cut a graph in two."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Hashable

from trt_pipeline.conversion.split.wiring import Tensor, Wiring

_ENDLESS = 10**9
_FIRST, _LAST = object(), object()
_Room = defaultdict[Hashable, dict[Hashable, int]]


def cut(wiring: Wiring, first: Collection[str], last: Collection[str], free: Collection[str],
        cost: Callable[[Tensor], int], *, most_last: bool) -> set[str]:
    """Which of the nodes ``free`` to put with ``first``, so that what crosses over to ``last`` costs least.

    Nothing that goes to the first side depends on what goes to the last. A tensor that crosses counts once,
    however many read it.

    Args:
        cost: of a tensor that crosses, above 0.
        most_last: of several cheapest cuts the one that leaves most on the last side, else on the first.
    """
    room = _edges(wiring, set(first), set(last), set(free), cost)
    while path := _path(room):
        amount = min(room[begin][end] for begin, end in path)
        for begin, end in path:
            room[begin][end] -= amount
            room[end][begin] += amount
    if most_last:
        reachable = _reachable(room, _FIRST)
        return {name for name in free if name in reachable}
    leading = _leading_to(room, _LAST)
    return {name for name in free if name not in leading}


def _edges(wiring: Wiring, first: set[str], last: set[str], free: set[str], cost: Callable[[Tensor], int]) -> _Room:
    """The cut as a minimum cut: between nodes, tensors and both sides, how much each edge costs."""
    room: _Room = defaultdict(dict)

    def edge(begin: Hashable, end: Hashable, capacity: int) -> None:
        room[begin][end] = capacity
        room[end].setdefault(begin, 0)

    for name in first:
        edge(_FIRST, name, _ENDLESS)
    for name in last:
        edge(name, _LAST, _ENDLESS)
    early, late = first | free, free | last
    for reader in wiring.order:
        for tensor in dict.fromkeys(wiring.reads(reader)):
            source = tensor[0]
            if source in early and reader in late:
                edge(source, tensor, cost(tensor))
                edge(tensor, reader, _ENDLESS)
            if reader in early and source in late:  # what a reader depends on is never later than itself
                edge(reader, source, _ENDLESS)
    return room


def _path(room: _Room) -> list[tuple[Hashable, Hashable]]:
    """A shortest way from the first side to the last that has room."""
    before = _reachable(room, _FIRST)
    if _LAST not in before:
        return []
    way: list[Hashable] = [_LAST]
    while way[-1] is not _FIRST:
        way.append(before[way[-1]])
    way.reverse()
    return list(itertools.pairwise(way))


def _reachable(room: _Room, start: Hashable) -> dict[Hashable, Hashable]:
    """What can be reached -> from where."""
    before: dict[Hashable, Hashable] = {start: start}
    pending = deque([start])
    while pending:
        begin = pending.popleft()
        for end, left in room[begin].items():
            if left > 0 and end not in before:
                before[end] = begin
                pending.append(end)
    return before


def _leading_to(room: _Room, end: Hashable) -> set[Hashable]:
    found: set[Hashable] = {end}
    pending = deque([end])
    while pending:
        later = pending.popleft()
        for earlier in room[later]:
            if room[earlier].get(later, 0) > 0 and earlier not in found:
                found.add(earlier)
                pending.append(earlier)
    return found
