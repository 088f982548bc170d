"""Floating-point operations of matrix products and convolutions, from static shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion.tftrt.segment import engines

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.framework import function_pb2, graph_pb2

_CONVOLUTIONS = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative"})
_TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})


def count(graph_def: graph_pb2.GraphDef, chosen: set[str]) -> tuple[float, float]:
    """Operations in the library functions ``chosen``, and in the whole graph; each function counts once.

    A multiplication and its addition are two. Free dimensions count as 1.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        total, inside = _of_graph(graph), 0.0
        shapes = _segment_shapes(graph_def)
        for function in graph_def.library.function:
            name = function.signature.name
            work = _of_graph(_as_graph(function, shapes.get(name)))
            total += work
            inside += work if name in chosen else 0.0
    return inside, total


def _segment_shapes(graph_def: graph_pb2.GraphDef) -> dict[str, list[Any]]:
    """Input shapes of the functions that engines run, as the pass found them."""
    return {node.attr["segment_func"].func.name: list(node.attr["input_shapes"].list.shape)
            for node in engines(graph_def)}


def _as_graph(function: function_pb2.FunctionDef, shapes: list[Any] | None) -> tf.Graph:
    from tensorflow.python.framework import function_def_to_graph, tensor_shape

    known = None
    if shapes is not None and len(shapes) == len(function.signature.input_arg):
        known = [tensor_shape.TensorShape(shape) for shape in shapes]
    return function_def_to_graph.function_def_to_graph(function, input_shapes=known)


def _of_graph(graph: tf.Graph) -> float:
    return sum(_of_operation(operation) for operation in graph.get_operations())


def _of_operation(operation: tf.Operation) -> float:
    if operation.type in _PRODUCTS:
        return _of_product(operation)
    if operation.type in _CONVOLUTIONS or operation.type in _TRANSPOSED:
        kernel = operation.inputs[1].shape
        # Each position of the smaller image meets the whole kernel once; of its four or five
        # dimensions the image's own channels are already in the kernel's.
        image = (operation.outputs[0] if operation.type in _CONVOLUTIONS else operation.inputs[2]).shape
        rows = _dimension(image, 0)
        return 2 * rows * _size(kernel) * _positions(image, operation.get_attr("data_format").decode())
    if operation.type == "Einsum":
        return _of_einsum(operation)
    return 0.0


def _of_product(operation: tf.Operation) -> float:
    """Rows, columns and the length that both sides share, which one side may know and the other not."""
    left, right = (tensor.shape for tensor in operation.inputs)
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    left_flipped, right_flipped = map(operation.get_attr, names)
    known_length = _dimension(left, -2 if left_flipped else -1)
    length = max(known_length, _dimension(right, -1 if right_flipped else -2))
    return 2 * _size(left) / known_length * length * _dimension(right, -2 if right_flipped else -1)


def _of_einsum(operation: tf.Operation) -> float:
    """The product of the sizes of all letters, each once."""
    equation = operation.get_attr("equation").decode().replace(" ", "")
    sizes: dict[Any, int] = {}
    for letters, tensor in zip(equation.partition("->")[0].split(","), operation.inputs, strict=True):
        before, dots, after = letters.partition("...")
        axes: dict[Any, int] = {letter: axis for axis, letter in enumerate(before)}
        axes |= {letter: axis - len(after) for axis, letter in enumerate(after)}
        if dots and tensor.shape.rank is not None:  # what the dots stand for lines up from the right
            axes |= {-axis: -len(after) - axis for axis in range(1, tensor.shape.rank - len(before + after) + 1)}
        for letter, axis in axes.items():
            sizes[letter] = max(sizes.get(letter, 1), _dimension(tensor.shape, axis))
    return 2.0 * math.prod(sizes.values())


def _positions(shape: tf.TensorShape, data_format: str) -> int:
    if shape.rank is None:
        return 1
    axes = range(2, shape.rank) if data_format.startswith("NC") else range(1, shape.rank - 1)
    return math.prod(_dimension(shape, axis) for axis in axes)


def _size(shape: tf.TensorShape) -> int:
    return math.prod(dimension or 1 for dimension in shape.as_list()) if shape.rank is not None else 1


def _dimension(shape: tf.TensorShape, axis: int) -> int:
    return (shape.as_list()[axis] or 1) if shape.rank is not None and -shape.rank <= axis < shape.rank else 1
