"""Walk a GraphDef whole: its own nodes and those of its functions, which loop and branch bodies are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tensorflow.core.framework import attr_value_pb2, function_pb2, graph_pb2, node_def_pb2

_STATEFUL = {"StatelessWhile": "While", "StatelessIf": "If", "StatelessCase": "Case"}


def every_node(graph_def: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    """Every node of ``graph_def``, those of its function library included."""
    for nodes, _ in scopes(graph_def):
        yield from nodes


def scopes(graph_def: graph_pb2.GraphDef) -> list[tuple[Any, function_pb2.FunctionDef | None]]:
    """The nodes of ``graph_def`` itself, with None, and those of each of its functions, with the function."""
    return [(graph_def.node, None), *((function.node_def, function) for function in graph_def.library.function)]


def called_functions(node: node_def_pb2.NodeDef) -> Iterator[attr_value_pb2.NameAttrList]:
    """The attributes by which ``node`` names functions: a loop's body, branches, what a call calls."""
    for attr in node.attr.values():
        if attr.HasField("func"):
            yield attr.func
        yield from attr.list.func


def node_name(tensor: str) -> str:
    """The node that makes ``tensor``, as a graph or a function body writes it; that of a control edge too."""
    return tensor.lstrip("^").split(":", 1)[0]


def copy_of(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """A copy that can be changed without changing ``graph_def``."""
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    return copy


def with_functions_renamed(graph_def: graph_pb2.GraphDef, prefix: str) -> graph_pb2.GraphDef:
    """A copy whose functions, and the calls of them, have ``prefix`` before their names."""
    copy = copy_of(graph_def)
    names = {f.signature.name: prefix + f.signature.name for f in copy.library.function}
    for body in copy.library.function:
        body.signature.name = names[body.signature.name]
    for gradient in copy.library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
    for node in every_node(copy):
        node.op = names.get(node.op, node.op)
        for called in called_functions(node):
            called.name = names.get(called.name, called.name)
    return copy


def data_types(node: node_def_pb2.NodeDef, side: Literal["input_arg", "output_arg"]) -> list[int]:
    """The DataType of each input or output of ``node``; none where this TensorFlow does not know the operation."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    kinds: list[int] = []
    for argument in getattr(definition, side) if definition is not None else ():
        if argument.type_list_attr:
            kinds += node.attr[argument.type_list_attr].list.type
        else:
            count = int(node.attr[argument.number_attr].i) if argument.number_attr else 1
            kinds += [argument.type or node.attr[argument.type_attr].type] * count
    return kinds


def make_stateful(graph_def: graph_pb2.GraphDef) -> None:
    """Declare all functions of ``graph_def``, and the nodes that run bodies, as having state.

    Without it TensorFlow may leave a body out, or take what it reads for a constant.
    """
    for function in graph_def.library.function:
        function.signature.is_stateful = True
    for node in every_node(graph_def):
        node.op = _STATEFUL.get(node.op, node.op)
