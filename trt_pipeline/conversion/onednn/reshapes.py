"""Shapes that a scope computes time and again, computed once, or not at all where one size in them is unknown.

A Tensordot computes the shape of its result from that of its operand, with several operations each time, and so does
what splits off heads of attention. In a decoding loop, which handles a few rows at a time, that is a share of the
work that can be seen: 5 to 10 % of the CPU time of a small translator.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.onednn.editing import INT32, Editor
from trt_pipeline.conversion.onednn.shapes import Sizes
from trt_pipeline.conversion.onednn.sizes import Shape, Size, SizesOf, Unknown, in_order

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2

_SAME_ELEMENTS = frozenset({"Reshape", "Squeeze", "ExpandDims"})


def simplify(editor: Editor, known: Mapping[str, Sizes]) -> None:
    """Let the scope's reshapes share their shapes, and transpositions that move nothing in memory be reshapes.

    Args:
        known: what `shapes.inferred` found; a name must still stand for a tensor of that shape.
    """
    # Between Enter and Exit, TensorFlow 1's loops, nodes may not read what stands outside.
    if not any(node.op == "Enter" for node in editor.scope.nodes):
        _Simplifier(editor, SizesOf(editor.scope, known)).run()


def _origin(editor: Editor, written: str) -> str:
    """The tensor of which ``written`` is a reshaped form."""
    while ((maker := editor.scope.maker(written)) is not None and maker.op in _SAME_ELEMENTS
           and not _waits(maker)):
        written = maker.input[0]
    return written


def _waits(node: node_def_pb2.NodeDef) -> bool:
    """Whether ``node`` has a control edge: it may wait for a check, which is not to be lost with it."""
    return node.op != "Const" and any(source.startswith("^") for source in node.input)


class _Simplifier:
    def __init__(self, editor: Editor, sizes: SizesOf) -> None:
        self._editor, self._sizes = editor, sizes
        self._shapes: dict[Shape, str] = {}
        self._numbers: dict[Size, str] = {}
        self._moved: dict[str, str] = {}

    def run(self) -> None:
        editor = self._editor
        nodes = in_order(editor.scope)
        targets = {node.name: target for node in nodes if (target := self._target(node)) is not None}
        for node in nodes:
            if (target := targets.get(node.name)) is not None:
                kind = node.attr["T"].type
                before = editor.first(node)
                editor.become(node, "Reshape", [node.input[0], self._shape(target)], T=kind, Tshape=INT32)
                self._moved[before] = editor.first(node)
            if node.op == "Reshape":
                node.input[0] = _origin(editor, node.input[0])

    def _target(self, node: node_def_pb2.NodeDef) -> Shape | None:
        """The shape that ``node`` reshapes to, where it can be had elsewhere; None where it stays as it is."""
        if node.op not in _SAME_ELEMENTS and not (node.op == "Transpose" and self._moves_nothing(node)):
            return None
        if node.op == "Reshape" and (canonical.constant(self._editor.scope, node.input[1]) is not None
                                     or self._arithmetic_waits(node.input[1])):
            return None
        written = self._editor.first(node)
        shape = self._sizes.of(written)
        if shape is None or any(isinstance(size, Unknown) and size.tensor == written for size in shape):
            return None
        return shape

    def _arithmetic_waits(self, written: str) -> bool:
        """Whether a node that computes a shape has a control edge."""
        pending, seen = [written], set()
        while pending:
            node = self._editor.scope.maker(pending.pop())
            if node is None or node.name in seen:
                continue
            if _waits(node):
                return True
            seen.add(node.name)
            pending += node.input if node.op != "Shape" else ()
        return False

    def _moves_nothing(self, node: node_def_pb2.NodeDef) -> bool:
        """Whether a Transpose changes the places of axes of one element only."""
        shape = self._sizes.of(node.input[0])
        order = canonical.constant(self._editor.scope, node.input[1])
        if shape is None or order is None:
            return False
        long = [axis for axis in order.reshape(-1).tolist()
                if shape[axis] != 1 and shape[axis] not in self._sizes.at_most_one]
        return long == sorted(long)

    def _shape(self, shape: Shape) -> str:
        """The shape as a tensor."""
        if shape not in self._shapes:
            numbers = [size for size in shape if isinstance(size, int)]
            if len(shape) - len(numbers) <= 1 and prod(numbers) != 0:
                made = self._editor.integers([size if isinstance(size, int) else -1 for size in shape])
            else:
                made = self._editor.pack([self._size(size) for size in shape], "int8/shape")
            self._shapes[shape] = made
        return self._shapes[shape]

    def _size(self, size: Size) -> str:
        if size not in self._numbers:
            if isinstance(size, int):
                self._numbers[size] = self._editor.integer(size)
            else:
                tensor = self._moved.get(size.tensor, size.tensor)
                self._numbers[size] = self._editor.size_of(tensor, size.axis, "int8/size")
        return self._numbers[size]
