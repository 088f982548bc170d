"""What is known of the shapes in a graph before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion.onednn.editing import Editor
from trt_pipeline.model.scoped import scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2

Sizes = tuple[int | None, ...]
"""The shape of a tensor of known rank; None where a size is only known when the graph runs."""
# Shapes depend on the values of small constants only, so larger ones need not be copied.
_LARGEST_COPIED_BYTES = 4096


class Shapes:
    """Static shapes of the tensors of a graph itself; in bodies none are known."""

    def __init__(self, graph_def: graph_pb2.GraphDef) -> None:
        import tensorflow as tf

        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.import_graph_def(graph_def, name="")

    def same(self, editor: Editor, one: str, other: str) -> bool:
        """Whether two tensors of rank 4 surely have the same shape, the free batch of their one input included."""
        if editor.scope.function is not None:
            return False
        first, second = self._of(one), self._of(other)
        if first.rank != 4 or second.rank != 4 or first[1:].as_list() != second[1:].as_list() or None in first[1:]:
            return False
        if first[0] is not None:
            return bool(first[0] == second[0])
        return len(self._fed(editor, one) | self._fed(editor, other)) == 1

    def _of(self, written: str) -> Any:
        name, _, index = written.partition(":")
        return self._graph.get_tensor_by_name(f"{name}:{index or 0}").shape

    def _fed(self, editor: Editor, written: str) -> set[str]:
        node = editor.scope.maker(written)
        names = editor.ancestors(node) | {node.name} if node is not None else set()
        return {name for name in names if editor.scope.by_name[name].op.startswith("Placeholder")}


def inferred(graph_def: graph_pb2.GraphDef) -> dict[str, Sizes]:
    """Scoped name -> shape, of every tensor whose rank is known, those in bodies included.

    A body's arguments have the shapes that `loops.inline_constants` noted of them.
    """
    import tensorflow as tf
    from tensorflow.python.framework import function_def_to_graph

    light = _without_values(graph_def)
    found: dict[str, Sizes] = {}
    for scope in scopes_of(light):
        if scope.function is None:
            own = type(light)(node=light.node)
        else:
            own, _ = function_def_to_graph.function_def_to_graph_def(scope.function, _argument_shapes(scope.function))
        own.versions.CopyFrom(graph_def.versions)
        own.library.CopyFrom(light.library)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(own, name="")
        for operation in graph.get_operations():
            for index, tensor in enumerate(operation.outputs):
                if tensor.shape.rank is not None:
                    found[f"{scope.path}{operation.name}:{index}"] = tuple(tensor.shape.as_list())
    return found


def _argument_shapes(function: function_pb2.FunctionDef) -> list[Any]:
    import tensorflow as tf

    noted = [function.arg_attr[number].attr["_output_shapes"].list.shape if number in function.arg_attr else ()
             for number in range(len(function.signature.input_arg))]
    return [tf.TensorShape(shapes[0]) if shapes else None for shapes in noted]


def _without_values(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """A copy with placeholders for large constants."""
    light = type(graph_def)(node=map(_light, graph_def.node))
    for function in graph_def.library.function:
        copy = light.library.function.add(signature=function.signature, ret=function.ret,
                                          control_ret=function.control_ret, node_def=map(_light, function.node_def))
        for number, attributes in function.arg_attr.items():
            copy.arg_attr[number].CopyFrom(attributes)
        for key, attribute in function.attr.items():
            copy.attr[key].CopyFrom(attribute)
    return light


def _light(node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef:
    if node.op != "Const" or node.attr["value"].ByteSize() <= _LARGEST_COPIED_BYTES:
        return node
    placeholder = type(node)(name=node.name, op="Placeholder", input=node.input)
    placeholder.attr["dtype"].CopyFrom(node.attr["dtype"])
    placeholder.attr["shape"].shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
    return placeholder
