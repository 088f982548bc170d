"""Decide for every operation of a signature whether it is before the core, in it, or after it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from trt_pipeline.conversion.split import flow
from trt_pipeline.conversion.split.hosts import Hosts, carries_list, makes_floats
from trt_pipeline.conversion.split.wiring import Tensor, Wiring
from trt_pipeline.errors import Unsupported

_MEASURES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
# What a tensor costs that crosses from one part to another. A shape, or a single number as shapes are computed
# with, is best not handed to an engine: TensorRT wants to know its value when it is built.
# A list of tensors cannot cross at all.
_INTEGERS, _FLOATS, _SHAPE, _LIST = 2, 3, 12, 10**6


@dataclass(frozen=True)
class Places:
    """The nodes of each part; Asserts among them. Constants and placeholders are in whatever reads them."""

    before: frozenset[str]
    core: frozenset[str]
    after: frozenset[str]


def place(wiring: Wiring, hosts: Hosts, work: Callable[[Collection[str]], float],
          rank: Callable[[Tensor], int | None]) -> Places:
    """Put what has to be on the host before and after a core that is as large as can be.

    Args:
        work: how much there is to compute in some nodes.
        rank: of a tensor, None where it is unknown.

    Raises:
        Unsupported: nothing with a weight is left for the core.
    """
    levels = _levels(wiring, hosts)
    candidates = sorted({levels[name] for name in hosts.weighted})
    if not candidates:
        name, why = next(iter(hosts.why.items()), ("", "it has nothing to compute"))
        reason = f"{wiring.nodes[name].op} ({name}) {why}, and nothing else has a weight" if name else why
        raise Unsupported(f"no part of it is for TensorRT: {reason}")
    parted = [_around(wiring, hosts, levels, level) for level in candidates]
    # One that is cut in two by what has to be on the host: the larger piece.
    places = parted[0] if len(parted) == 1 else max(parted, key=lambda one: work(one.core))
    return _with_checks(wiring, hosts, _trimmed(wiring, hosts, places, rank))


def _levels(wiring: Wiring, hosts: Hosts) -> dict[str, int]:
    """Even: on the host or before any weights; odd: with weights. No edge leads down."""
    levels: dict[str, int] = {}
    for name in wiring.order:
        level = max((levels.get(source, 0) for source, _ in wiring.reads(name)), default=0)
        if name in hosts.why:
            level += level % 2
        elif name in hosts.weighted:
            level += 1 - level % 2
        levels[name] = level
    return levels


def _around(wiring: Wiring, hosts: Hosts, levels: dict[str, int], level: int) -> Places:
    """The parts where the weights of ``level`` are the core."""
    weights = {name for name in hosts.weighted if levels[name] == level}
    needed = wiring.ancestors(weights)
    entry = {name for name in hosts.why if name in needed}
    before = wiring.ancestors(entry)
    after = wiring.descendants(hosts.why.keys() - before)
    return Places(frozenset(before), frozenset(set(wiring.order) - before - after), frozenset(after))


def _trimmed(wiring: Wiring, hosts: Hosts, places: Places, rank: Callable[[Tensor], int | None]) -> Places:
    """The parts with the light integer work at the core's ends put to where least has to cross."""
    shapes = _shapes(wiring)

    def cost(tensor: Tensor) -> int:
        name = tensor[0]
        if carries_list(wiring.nodes[name], tensor[1]):
            return _LIST
        if name in shapes or rank(tensor) == 0:
            return _SHAPE
        return _FLOATS if makes_floats(wiring.nodes[name]) else _INTEGERS

    core = set(places.core)
    light = {name for name in core if name not in hosts.weighted and not makes_floats(wiring.nodes[name])}
    before, after = set(places.before), set(places.after)
    if before:
        # What has nothing to do with weights, an engine would only hand through.
        weighed = core & wiring.descendants(core & hosts.weighted)
        idle = core - wiring.ancestors(weighed)
        moved = flow.cut(wiring, before, (core - light - idle) | after, light | idle, cost, most_last=True)
        for name in (name for name in wiring.order if name in idle):
            if all(source in before | moved or wiring.is_source(source) for source, _ in wiring.reads(name)):
                moved.add(name)
        before, core, light = before | moved, core - moved, light - moved
    if after:
        # What nothing there needs has no reason to go.
        leading = light & wiring.ancestors(after)
        kept = flow.cut(wiring, core - leading, after, leading, cost, most_last=False)
        after |= leading - kept
        core -= leading - kept
    return Places(frozenset(before), frozenset(core), frozenset(after))


def _shapes(wiring: Wiring) -> set[str]:
    """The nodes whose values come from the shapes of tensors alone."""
    found: set[str] = set()
    for name in wiring.order:
        computed = [source for source, _ in wiring.reads(name) if wiring.nodes[source].op != "Const"]
        if wiring.nodes[name].op in _MEASURES or (computed and found.issuperset(computed)):
            found.add(name)
    return found


def _with_checks(wiring: Wiring, hosts: Hosts, places: Places) -> Places:
    """The parts with the Asserts that can be made in them; the others go, as they do in ONNX."""
    before, core = set(places.before), set(places.core)
    for check in wiring.checks():
        reads = wiring.ancestors([check])
        if before and not reads & (places.core | places.after):
            before |= reads
        elif not reads & (places.before | places.after | hosts.why.keys()):
            core |= reads
    return Places(frozenset(before), frozenset(core), places.after)
