"""Walk an ONNX model whole: its graph and the bodies of its loops and branches, each with who makes and reads what."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Body:
    """One graph of a model: its own, or a body that ``owner`` (a node of ``parent``) runs as ``attribute``.

    The tables are of the graph as it was when first asked for.
    """

    def __init__(self, graph: onnx.GraphProto, parent: Body | None = None, owner: onnx.NodeProto | None = None,
                 attribute: str = "") -> None:
        self.graph, self.parent, self.owner, self.attribute = graph, parent, owner, attribute

    @property
    def path(self) -> str:
        """What stands before the names of the graph's own nodes: ``OWNER.ATTRIBUTE/`` for each graph around it."""
        if self.parent is None or self.owner is None:
            return ""
        return f"{self.parent.path}{self.owner.name}.{self.attribute}/"

    @cached_property
    def makers(self) -> dict[str, onnx.NodeProto]:
        """Tensor -> the node that makes it."""
        return {output: node for node in self.graph.node for output in node.output if output}

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """Tensor -> the nodes of this very graph that read it."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def read_inside(self) -> frozenset[str]:
        """What the bodies that nodes of this graph run read by name; some of it may be their own."""
        return frozenset(name for node in self.graph.node for body in _graphs_of(node) for name in _reads(body))

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Names of the graph's inputs."""
        return frozenset(value.name for value in self.graph.input)

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the tensors that the graph returns."""
        return frozenset(value.name for value in self.graph.output)

    @cached_property
    def constants(self) -> dict[str, onnx.TensorProto]:
        """The graph's own constants by tensor name."""
        found = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                found[node.output[0]] = node.attribute[0].t
        return found

    def home(self, tensor: str) -> Body | None:
        """The graph that ``tensor``, read here, belongs to: this one, or one around it."""
        body: Body | None = self
        while body is not None:
            if tensor in body.makers or tensor in body.inputs or tensor in body.constants:
                return body
            body = body.parent
        return None

    def constant(self, tensor: str) -> onnx.TensorProto | None:
        """The constant that ``tensor``, read here, is; None where it is computed."""
        home = self.home(tensor)
        return home.constants.get(tensor) if home is not None else None

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads ``tensor``; None where there are others, in bodies too, or it is returned."""
        readers = self.readers.get(tensor, [])
        if len(readers) != 1 or tensor in self.outputs or tensor in self.read_inside:
            return None
        return readers[0] if list(readers[0].input).count(tensor) == 1 else None

    def weighted(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` multiplies by a constant weight."""
        return node.op_type in WEIGHTED and not node.domain and self.constant(node.input[1]) is not None


def bodies_of(model: onnx.ModelProto) -> list[Body]:
    """The graphs of ``model``, each before the bodies in it."""
    found = [Body(model.graph)]
    for body in found:  # grows while it is walked
        for node in body.graph.node:
            for attribute in node.attribute:
                found += [Body(graph, body, node, attribute.name) for graph in _graphs_in(attribute)]
    return found


def array(tensor: onnx.TensorProto, folder: str = "") -> npt.NDArray[Any]:
    """The value of a constant; ``folder`` is where the model's external data lies."""
    from onnx import numpy_helper

    value: npt.NDArray[Any] = numpy_helper.to_array(tensor, base_dir=folder)
    return value


def sort(graph: onnx.GraphProto) -> None:
    """Put the nodes of ``graph`` in an order in which each stands after what it reads, changing no more than that."""
    nodes = list(graph.node)
    makers = {output: place for place, node in enumerate(nodes) for output in node.output if output}
    ordered: list[int] = []
    done: set[int] = set()
    for start in range(len(nodes)):
        stack = [(start, False)]
        while stack:
            place, ready = stack.pop()
            if ready:
                ordered.append(place)
            elif place not in done:
                done.add(place)
                stack.append((place, True))
                stack += [(makers[name], False) for name in reads(nodes[place]) if makers.get(name, place) not in done]
    kept = [type(node).FromString(node.SerializeToString()) for node in (nodes[place] for place in ordered)]
    del graph.node[:]
    graph.node.extend(kept)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What ``node`` reads, by its inputs and inside its bodies."""
    yield from node.input
    for body in _graphs_of(node):
        yield from _reads(body)


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from reads(node)
    for value in graph.output:
        yield value.name


def _graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from _graphs_in(attribute)


def _graphs_in(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs
