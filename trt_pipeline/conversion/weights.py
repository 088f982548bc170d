"""Take the large weights out of a frozen graph, so that tools which copy graphs copy a megabyte, not a gigabyte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import Unsupported
from trt_pipeline.model.nodes import node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

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


def take_variables(graph_def: graph_pb2.GraphDef, handles: dict[str, Any]) -> Weights:
    """Turn the captured variables of an inlined graph, in place, into placeholders that weights can be fed to.

    Args:
        graph_def: without loops and branches.
        handles: placeholder node name -> handle of the variable.

    Returns:
        The variables by node name. They share the memory of TensorFlow's own.

    Raises:
        Unsupported: an operation does more with a variable than read it.
    """
    import tensorflow as tf

    by_name = {node.name: node for node in graph_def.node}

    def variable(edge: str) -> str:
        """The variable whose handle ``edge`` carries, through any number of Identity ops; empty where it is none."""
        node = by_name.get(node_name(edge))
        while node is not None and node.op == "Identity":
            node = by_name.get(node_name(node.input[0]))
        return node.name if node is not None and node.name in handles else ""

    users = [(node, name) for node in graph_def.node for edge in node.input
             if not edge.startswith("^") and (name := variable(edge))]
    # What nothing reads as a variable is a table.
    dtypes = {name: node.attr["dtype"].type for node, name in users
              if node.op in ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")}
    for node, name in users:
        if name in dtypes:
            _read_tensor(node, dtypes[name])
    gather_from_constants(graph_def.node)
    weights: Weights = {}
    for name, dtype in dtypes.items():
        value = tf.raw_ops.ReadVariableOp(resource=handles[name], dtype=dtype)
        weights[name] = value._numpy()  # numpy() would copy it
        by_name[name].attr.clear()
        by_name[name].attr["dtype"].type = dtype
        by_name[name].attr["shape"].shape.CopyFrom(value.shape.as_proto())
    return weights


def _read_tensor(node: node_def_pb2.NodeDef, dtype: int) -> None:
    """Let ``node`` take a tensor where it took the handle of a variable."""
    if node.op in ("Identity", "ReadVariableOp"):
        node.op = "Identity"
        node.attr.clear()
        node.attr["T"].type = dtype
    elif node.op == "VariableShape":
        node.op = "Shape"
        node.attr["T"].type = dtype
    elif node.op == "ResourceGatherNd":
        node.op = "GatherNd"
        node.attr["Tparams"].type = dtype
        node.attr.pop("dtype", None)
    elif node.op != "ResourceGather":
        raise Unsupported(f"over 2 GiB a variable can only be read, and {node.op} {node.name} does more with one")


def gather_from_constants(nodes: Any, output: str = "") -> None:
    """Turn each ResourceGather of ``nodes`` into GatherV2.

    Args:
        output: what follows a Const's name where its output is read; in bodies ":output:0".
    """
    for node in [n for n in nodes if n.op == "ResourceGather"]:
        axis = nodes.add(name=f"{node.name}/axis", op="Const")
        axis.attr["dtype"].type = 3  # DT_INT32
        axis.attr["value"].tensor.dtype = 3
        axis.attr["value"].tensor.tensor_shape.SetInParent()
        axis.attr["value"].tensor.int_val.append(0)
        node.op = "GatherV2"
        node.input.insert(2, f"{axis.name}{output}")
        node.attr["Tparams"].type = node.attr["dtype"].type
        node.attr["Taxis"].type = 3  # DT_INT32
        for key in ("dtype", "validate_indices"):
            node.attr.pop(key, None)
