"""The operations of each signature, read from the graph: counts, and which of them keep it off a backend."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from trt_pipeline.frozen import Frozen
from trt_pipeline.model.nodes import called_functions, node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

# Present in every graph, and work on none of its numbers.
STRUCTURAL_OPS = frozenset({
    "Const", "Identity", "IdentityN", "NoOp", "Placeholder", "PartitionedCall", "StatefulPartitionedCall",
    "VarHandleOp", "ReadVariableOp", "StopGradient", "PreventGradient", "Assert", "SaveV2", "RestoreV2",
})


class Blocker(Frozen):
    """Operations of one type that keep a signature off a backend."""

    op: str
    count: int
    example: str
    why: str

    def __str__(self) -> str:
        return f"{self.op} x{self.count} ({self.why}; e.g. {self.example})"


class Operation(Frozen):
    """One node that a signature reaches; ``name`` is as in the graph, prefixed by its function's name."""

    op: str
    name: str
    string: bool
    """Whether it makes or takes strings."""


def reachable(meta_graph: meta_graph_pb2.MetaGraphDef, signature: str) -> list[Operation]:
    """Every operation that ``signature``'s outputs depend on, loop and branch bodies included."""
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    found: list[Operation] = []
    seen: set[str] = set()
    calls: deque[str] = deque()
    for node in _ancestors(meta_graph, signature):
        found.append(_operation(node, ""))
        calls.extend(function.name for function in called_functions(node))
    while calls:
        name = calls.popleft()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            found.append(_operation(node, name))
            calls.extend(function.name for function in called_functions(node))
    return found


def counts(operations: Iterable[Operation]) -> dict[str, int]:
    """Number of operations per type, most frequent first, structure left out."""
    return dict(Counter(o.op for o in operations if o.op not in STRUCTURAL_OPS).most_common())


def blockers(reasons: Iterable[tuple[Operation, str]]) -> list[Blocker]:
    """One `Blocker` for each operation type among ``reasons``, a stream of (operation, why)."""
    grouped: dict[tuple[str, str], list[Operation]] = {}
    for operation, why in reasons:
        grouped.setdefault((operation.op, why), []).append(operation)
    return [Blocker(op=op, count=len(group), example=group[0].name, why=why)
            for (op, why), group in sorted(grouped.items())]


def _ancestors(meta_graph: meta_graph_pb2.MetaGraphDef, signature: str) -> Iterator[node_def_pb2.NodeDef]:
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    outputs = meta_graph.signature_def[signature].outputs.values()
    pending = deque(node_name(info.name) for info in outputs)
    seen: set[str] = set()
    while pending:
        name = pending.popleft()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        pending.extend(node_name(i) for i in nodes[name].input)
        yield nodes[name]


def _operation(node: node_def_pb2.NodeDef, function: str) -> Operation:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    fixed = {a.type for a in (*definition.input_arg, *definition.output_arg)} if definition else set()
    given = {attr.type for attr in node.attr.values()} | {t for attr in node.attr.values() for t in attr.list.type}
    name = f"{function}/{node.name}" if function else node.name
    return Operation(op=node.op, name=name, string=types_pb2.DT_STRING in fixed | given)
