"""Take the large weights out of a frozen graph, so that tools which copy graphs copy a megabyte, not a gigabyte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2

Weights = dict[str, npt.NDArray[Any]]
# Smaller constants may be read by a converter itself (shapes, axes, paddings), so they stay in.
_SMALLEST_BYTES = 4096


def strip_weights(graph_def: graph_pb2.GraphDef) -> tuple[graph_pb2.GraphDef, Weights]:
    """Replace the large float32 constants of ``graph_def`` by placeholders of the same name and shape.

    ``graph_def`` itself is stripped, to let go of its memory.

    Returns:
        The graph, and what was taken, by node name.
    """
    import tensorflow as tf
    from tensorflow.core.framework import tensor_shape_pb2, types_pb2

    weights: Weights = {}
    for node in graph_def.node:
        if node.op != "Const" or node.attr["dtype"].type != types_pb2.DT_FLOAT:
            continue
        tensor = node.attr["value"].tensor
        if len(tensor.tensor_content) < _SMALLEST_BYTES:
            continue
        weights[node.name] = np.array(tf.make_ndarray(tensor))
        shape = tensor_shape_pb2.TensorShapeProto()
        shape.CopyFrom(tensor.tensor_shape)
        del node.attr["value"]
        node.op = "Placeholder"
        node.attr["shape"].shape.CopyFrom(shape)
    # A fresh message: the old one's arena would keep the stripped weights in memory.
    return type(graph_def).FromString(graph_def.SerializeToString()), weights
