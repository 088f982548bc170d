"""Cut nodes out of a graph as a graph of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from trt_pipeline.conversion.split.wiring import SOURCES, Tensor, tensor_of
from trt_pipeline.model.contract import Shape
from trt_pipeline.model.nodes import called_functions, data_types, node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2


class Part:
    """Some nodes of a graph, and what they need, as a graph of their own; nodes keep their names.

    ``fed`` maps each tensor that another part makes to the placeholder that stands for it here. That has the name of
    the tensor's node, so that the tensor keeps its name too, where it is that node's first output.
    """

    def __init__(self, graph_def: graph_pb2.GraphDef, chosen: Collection[str], wanted: Iterable[Tensor],
                 kind: Callable[[Tensor], tuple[str, Shape | None]], same: Mapping[Tensor, Tensor]) -> None:
        """
        Args:
            wanted: tensors that the part is to give.
            kind: dtype and shape of a tensor.
            same: tensors that another one is to stand for where they are fed.
        """
        nodes = {node.name: node for node in graph_def.node}
        self.fed: dict[Tensor, str] = {}
        self.graph_def = type(graph_def)(versions=graph_def.versions)
        needed = _needed(nodes, chosen, [name for name, _ in wanted])
        taken = set(needed)
        for node in graph_def.node:
            if node.name in needed:
                self.graph_def.node.add().CopyFrom(node)
        for node in list(self.graph_def.node):
            sources = list(node.input)
            del node.input[:]
            for source in sources:
                if source.startswith("^"):
                    node.input.extend([source] if node_name(source) in needed else [])
                elif node_name(source) in needed:
                    node.input.append(source)
                else:
                    tensor = same.get(tensor_of(source), tensor_of(source))
                    if tensor not in self.fed:
                        self.fed[tensor] = self._add_placeholder(tensor, *kind(tensor), taken)
                    node.input.append(self.fed[tensor])
        self.graph_def.library.CopyFrom(_library(graph_def, self.graph_def))

    def wait_for(self, output: Tensor, checks: Iterable[str]) -> Tensor:
        """A tensor like ``output`` that is only there once ``checks`` are made."""
        maker = next(node for node in self.graph_def.node if node.name == output[0])
        node = self.graph_def.node.add(name=f"{output[0]}/checked", op="Identity")
        node.input.extend([f"{output[0]}:{output[1]}", *(f"^{check}" for check in checks)])
        node.attr["T"].type = data_types(maker, "output_arg")[output[1]]
        return node.name, 0

    def _add_placeholder(self, tensor: Tensor, dtype: str, shape: Shape | None, taken: set[str]) -> str:
        import tensorflow as tf

        name = unique(tensor[0] if tensor[1] == 0 else f"{tensor[0]}/{tensor[1]}", taken)
        node = self.graph_def.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = tf.dtypes.as_dtype(dtype).as_datatype_enum
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
        return name


def unique(name: str, taken: set[str]) -> str:
    """``name``, or the first of ``name_1``, ``name_2`` ... that is not ``taken``; it is, then."""
    candidates = [name]
    while candidates[-1] in taken:
        candidates.append(f"{name}_{len(candidates)}")
    taken.add(candidates[-1])
    return candidates[-1]


def _needed(nodes: dict[str, node_def_pb2.NodeDef], chosen: Collection[str], wanted: Iterable[str]) -> set[str]:
    """Of ``chosen``, constants and placeholders, what ``wanted`` depend on."""
    found, pending = set(), deque(wanted)
    while pending:
        name = pending.popleft()
        if name in found or name not in nodes or not (name in chosen or nodes[name].op in SOURCES):
            continue
        found.add(name)
        for source in nodes[name].input:
            # What is only waited for and no node of this part has no business here.
            if not source.startswith("^") or node_name(source) in chosen:
                pending.append(node_name(source))
    return found


def _library(whole: graph_pb2.GraphDef, part: graph_pb2.GraphDef) -> function_pb2.FunctionDefLibrary:
    """The functions of ``whole`` that ``part`` reaches."""
    functions = {f.signature.name: f for f in whole.library.function}
    library: function_pb2.FunctionDefLibrary = type(whole.library)()

    def calls(nodes: Iterable[node_def_pb2.NodeDef]) -> Iterator[str]:
        for node in nodes:
            yield node.op
            yield from (called.name for called in called_functions(node))

    pending, seen = deque(calls(part.node)), set()
    while pending:
        name = pending.popleft()
        if name in functions and name not in seen:
            seen.add(name)
            pending.extend(calls(functions[name].node_def))
    library.function.extend(f for f in whole.library.function if f.signature.name in seen)
    library.gradient.extend(g for g in whole.library.gradient if g.function_name in seen)
    return library
