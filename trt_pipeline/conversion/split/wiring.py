"""The data edges of a graph: who reads whom, in an order in which everything can be computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from trt_pipeline.errors import Unsupported
from trt_pipeline.model.nodes import node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

Tensor = tuple[str, int]
"""A node of the graph and the number of one of its outputs."""
# Every part that needs one has its own.
SOURCES = frozenset({"Const", "Placeholder"})


def tensor_of(written: str) -> Tensor:
    """The tensor that the graph writes as ``node`` or ``node:1``."""
    name, _, index = written.partition(":")
    return name, int(index or 0)


class Wiring:
    """A graph's own nodes (not those of its functions) as far as ``outputs`` depend on them by data.

    ``nodes`` is every node by name. ``order`` names those that compute something, each after what it reads.

    Raises:
        Unsupported: the graph goes in circles, as TensorFlow 1's loops do.
    """

    def __init__(self, graph_def: graph_pb2.GraphDef, outputs: Iterable[str]) -> None:
        self.nodes: dict[str, node_def_pb2.NodeDef] = {node.name: node for node in graph_def.node}
        self.wanted = [tensor_of(output) for output in outputs]
        self.reached = self._upstream(name for name, _ in self.wanted)
        self.order = self._sorted()

    def reads(self, name: str) -> list[Tensor]:
        """What the node called ``name`` reads, control edges left out."""
        return [tensor_of(source) for source in self.nodes[name].input if not source.startswith("^")]

    def is_source(self, name: str) -> bool:
        """Whether it is a constant or is fed."""
        return self.nodes[name].op in SOURCES

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """Node -> the reached nodes that read it."""
        found: dict[str, list[str]] = {name: [] for name in self.reached}
        for name in self.order:
            for source in dict.fromkeys(node for node, _ in self.reads(name)):
                found[source].append(name)
        return found

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """The nodes ``names`` and all that compute something for them."""
        return {name for name in self._upstream(names) if not self.is_source(name)}

    def descendants(self, names: Iterable[str]) -> set[str]:
        """The nodes ``names`` and all reached ones that depend on them."""
        found, pending = set(names), deque(names)
        while pending:
            for reader in self.readers[pending.popleft()]:
                if reader not in found:
                    found.add(reader)
                    pending.append(reader)
        return found

    def checks(self) -> list[str]:
        """The Asserts that something reached waits for, directly or through NoOps."""
        found, pending, seen = [], deque(self.reached), set(self.reached)
        while pending:
            name = pending.popleft()
            for control in (node_name(s) for s in self.nodes[name].input if s.startswith("^")):
                if control in seen or control not in self.nodes:
                    continue
                seen.add(control)
                if self.nodes[control].op == "Assert":
                    found.append(control)
                elif self.nodes[control].op == "NoOp":
                    pending.append(control)
        return found

    def _upstream(self, names: Iterable[str]) -> set[str]:
        found, pending = set(), deque(names)
        while pending:
            name = pending.popleft()
            if name not in found and name in self.nodes:
                found.add(name)
                pending.extend(source for source, _ in self.reads(name))
        return found

    def _sorted(self) -> list[str]:
        """In the graph's own order where that allows it."""
        waiting, readers = {}, {name: list[str]() for name in self.reached}
        for name in (name for name in self.nodes if name in self.reached):
            sources = {source for source, _ in self.reads(name)}
            waiting[name] = len(sources)
            for source in sources:
                readers[source].append(name)
        ready = deque(name for name, count in waiting.items() if not count)
        order = []
        while ready:
            name = ready.popleft()
            order.append(name)
            for reader in readers[name]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)
        if len(order) < len(waiting):
            stuck = next(name for name, count in waiting.items() if count)
            raise Unsupported(f"it has a loop of TensorFlow 1 ({stuck}): export the model with TensorFlow 2 "
                              "control flow")
        return [name for name in order if not self.is_source(name)]
