"""Name the tensors of a whole graph, bodies of loops and branches included, by names that last.

A tensor of the graph itself is ``node:0``. One inside a body is ``CALL.ATTRIBUTE/node:0``: the node
that runs the body, the attribute that names it, then the node in it, as in
``translate/while.body/while/MatMul:0``. Functions' own names are no use: TensorFlow numbers them anew
whenever it loads a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trt_pipeline.model.nodes import node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2


class Scope:
    """The nodes of a graph, or of one function of it, and where they stand.

    ``path`` is empty for the graph itself, else ``CALL.ATTRIBUTE/``. ``nodes`` is the protobuf field.
    """

    def __init__(self, path: str, nodes: Any, function: function_pb2.FunctionDef | None) -> None:
        self.path, self.nodes, self.function = path, nodes, function

    @cached_property
    def by_name(self) -> dict[str, node_def_pb2.NodeDef]:
        """The nodes by their own names; as they were when it was first asked for."""
        return {node.name: node for node in self.nodes}

    def node(self, name: str) -> str:
        """The scoped name of a node, given its own."""
        return f"{self.path}{name}"

    def tensor(self, written: str) -> str:
        """The scoped name of a tensor, given how a node of this scope writes it in its inputs."""
        maker, _, rest = written.lstrip("^").partition(":")
        if self.function is None or not rest:
            return f"{self.path}{maker}:{rest or 0}"
        output, _, position = rest.partition(":")
        return f"{self.path}{maker}:{self._before(maker, output) + int(position)}"

    def written(self, name: str, index: int = 0) -> str:
        """How a node of this scope writes output ``index`` of the node ``name`` (its own name)."""
        if self.function is None:
            return f"{name}:{index}" if index else name
        if name not in self.by_name:  # an argument
            return name
        for output, count in _outputs(self.by_name[name]):
            if index < count:
                return f"{name}:{output}:{index}"
            index -= count
        raise IndexError(f"{name} has no output {index}")

    def maker(self, written: str) -> node_def_pb2.NodeDef | None:
        """The node that makes a tensor, given how it is written; None for a function's argument."""
        return self.by_name.get(node_name(written))

    def add(self, op: str, name: str, inputs: Iterable[str] = (), **types: int) -> node_def_pb2.NodeDef:
        """A new node of this scope; ``types`` are its attributes that are DataTypes."""
        node: node_def_pb2.NodeDef = self.nodes.add(name=name, op=op, input=inputs)
        for key, kind in types.items():
            node.attr[key].type = kind
        self.by_name[name] = node
        return node

    def add_constant(self, name: str, value: npt.ArrayLike) -> str:
        """A new Const of ``value``; how nodes of this scope write it."""
        from tensorflow.python.framework import tensor_util

        tensor = tensor_util.make_tensor_proto(value)
        node = self.add("Const", name, dtype=tensor.dtype)
        node.attr["value"].tensor.CopyFrom(tensor)
        return self.written(name)

    def redirect(self, written: str, moved: str, readers: Iterable[node_def_pb2.NodeDef] | None = None) -> None:
        """Let ``readers`` (by default all nodes of this scope), and what it returns, read ``moved`` for ``written``."""
        same = {written, f"{written}:0"} if self.function is None else {written}
        for reader in self.nodes if readers is None else readers:
            for position, source in enumerate(reader.input):
                if source in same:
                    reader.input[position] = moved
        if self.function is not None:
            for key, source in list(self.function.ret.items()):
                if source in same:
                    self.function.ret[key] = moved

    def _before(self, maker: str, output: str) -> int:
        count = 0
        for name, size in _outputs(self.by_name[maker]):
            if name == output:
                return count
            count += size
        raise KeyError(f"{self.by_name[maker].op} has no output {output}")


def scopes_of(graph_def: graph_pb2.GraphDef) -> list[Scope]:
    """The graph itself, then every function that it reaches; one that several nodes call, by the first of them."""
    functions = {f.signature.name: f for f in graph_def.library.function}
    found = [Scope("", graph_def.node, None)]
    seen: set[str] = set()
    for scope in found:  # grows while it is walked
        for node in scope.nodes:
            for attribute, called in _called(node):
                if called in functions and called not in seen:
                    seen.add(called)
                    function = functions[called]
                    found.append(Scope(f"{scope.path}{node.name}.{attribute}/", function.node_def, function))
    return found


def _called(node: node_def_pb2.NodeDef) -> Iterator[tuple[str, str]]:
    for key in sorted(node.attr):
        value = node.attr[key]
        if value.HasField("func"):
            yield key, value.func.name
        for number, function in enumerate(value.list.func):
            yield f"{key}_{number}", function.name


def _outputs(node: node_def_pb2.NodeDef) -> Iterator[tuple[str, int]]:
    """Name and number of tensors of each output of ``node``."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if definition is None:
        raise KeyError(f"{node.op} is no operation of this TensorFlow")
    for output in definition.output_arg:
        if output.number_attr:
            yield output.name, int(node.attr[output.number_attr].i)
        elif output.type_list_attr:
            yield output.name, len(node.attr[output.type_list_attr].list.type)
        else:
            yield output.name, 1
