"""What is known of the shapes in a graph before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion.onednn.editing import Editor

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2


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
