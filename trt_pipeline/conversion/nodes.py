"""Walk a GraphDef whole: its own nodes and those of its functions, which loop and branch bodies are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2


def every_node(graph_def: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    """Every node of ``graph_def``, those of its function library included."""
    yield from graph_def.node
    for body in graph_def.library.function:
        yield from body.node_def
