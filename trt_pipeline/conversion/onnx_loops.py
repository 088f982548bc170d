"""Make the weights of ONNX loops constants again.

tf2onnx carries everything that a TensorFlow while loop reads, weights included, as loop state: a
2+2-layer decoder's Loop gets 88 inputs. State that the body hands on untouched can be read from
the enclosing scope instead, which lets ONNX Runtime prepack and quantize it, and TensorRT see a
constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def hoist_loop_constants(model: onnx.ModelProto) -> int:
    """Rewrite every Loop of ``model`` in place; returns how many state variables were hoisted."""
    return sum(_hoist(node, graph) for graph in list(_graphs(model.graph)) for node in graph.node
               if node.op_type == "Loop")


def declare_counters(model: onnx.ModelProto) -> None:
    """Declare the counter and the condition of every Loop's body as the scalars that they are.

    tf2onnx may lose a counter's shape, and ONNX Runtime does not run a loop without it.
    """
    for graph in _graphs(model.graph):
        for loop in [node for node in graph.node if node.op_type == "Loop"]:
            body = next(a.g for a in loop.attribute if a.name == "body")
            for value in (body.input[0], body.input[1], body.output[0]):
                if not value.type.tensor_type.HasField("shape"):
                    value.type.tensor_type.shape.SetInParent()


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Inner graphs before the ones that hold them."""
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.node or body.output:
                    yield from _graphs(body)
    yield graph


def _hoist(loop: onnx.NodeProto, outer: onnx.GraphProto) -> int:
    body = next(a.g for a in loop.attribute if a.name == "body")
    # Loop inputs: trip count, condition, state...; body inputs: iteration, condition, state...;
    # body outputs: condition, state..., scan outputs...
    states = len(loop.input) - 2
    constant = {i for i in range(states) if _is_untouched(body, i) and not _is_read(outer, loop.output[i])}
    # A weight that another output of the body hands on under its own name has to keep that name.
    constant -= {i for i in constant if any(
        output.name == body.input[2 + i].name for place, output in enumerate(body.output) if place != 1 + i)}
    if not constant:
        return 0
    outer_names = {body.input[2 + i].name: loop.input[2 + i] for i in constant}
    scans = range(states, len(loop.output))
    kept = [i for i in range(states) if i not in constant]
    _keep(loop.input, [0, 1, *(2 + i for i in kept)])
    _keep(loop.output, [*kept, *scans])
    _keep(body.input, [0, 1, *(2 + i for i in kept)])
    _keep(body.output, [0, *(1 + i for i in kept), *(1 + i for i in scans)])
    _rename_reads(body, outer_names)
    _drop_unread_identities(body)
    return len(constant)


def _is_untouched(body: onnx.GraphProto, state: int) -> bool:
    """Whether the body returns state variable ``state`` as it came, through identities at most."""
    makers = {output: node for node in body.node for output in node.output}
    name = body.output[1 + state].name
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return bool(name == body.input[2 + state].name)


def _is_read(graph: onnx.GraphProto, name: str) -> bool:
    return any(name in node.input for node in graph.node) or any(name == o.name for o in graph.output) or any(
        _is_read(body, name) for node in graph.node for a in node.attribute for body in (a.g, *a.graphs))


def _keep(field, positions) -> None:  # type: ignore[no-untyped-def]  # a repeated protobuf field has no public type
    chosen = [field[i] if isinstance(field[i], str) else type(field[i]).FromString(field[i].SerializeToString())
              for i in positions]
    del field[:]
    field.extend(chosen)


def _rename_reads(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in names:
                node.input[place] = names[name]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename_reads(body, names)


def _drop_unread_identities(body: onnx.GraphProto) -> None:
    unread = [node for node in body.node
              if node.op_type == "Identity" and not _is_read(body, node.output[0])]
    for node in unread:
        body.node.remove(node)
