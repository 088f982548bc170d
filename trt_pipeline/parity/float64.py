"""The same graph in float64: what the original would say without float32's rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.model.nodes import copy_of, every_node

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2


def to_float64(graph_def: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """A copy of ``graph_def`` in which every float32 is a float64; inference batch norms become arithmetic.

    Whether TensorFlow has float64 kernels for all of its operations shows when it is run.
    """
    from tensorflow.core.framework import types_pb2

    copy = copy_of(graph_def)
    _decompose_batch_norms(copy.node)
    for body in copy.library.function:
        for argument in (*body.signature.input_arg, *body.signature.output_arg):
            if argument.type == types_pb2.DT_FLOAT:
                argument.type = types_pb2.DT_DOUBLE
        for attributes in (body.attr, *(a.attr for a in body.arg_attr.values())):
            _retype(attributes)
    for node in every_node(copy):
        _retype(node.attr)
    return copy


def _retype(attributes: Any) -> None:
    import numpy as np
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    for attribute in attributes.values():
        if attribute.HasField("type") and attribute.type == types_pb2.DT_FLOAT:
            attribute.type = types_pb2.DT_DOUBLE
        elif attribute.HasField("tensor") and attribute.tensor.dtype == types_pb2.DT_FLOAT:
            attribute.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(attribute.tensor).astype(np.float64)))
        elif attribute.HasField("list"):
            for place, kind in enumerate(attribute.list.type):
                if kind == types_pb2.DT_FLOAT:
                    attribute.list.type[place] = types_pb2.DT_DOUBLE


def _decompose_batch_norms(nodes: Any) -> None:
    """FusedBatchNorm has no float64 kernel: (x - mean) * rsqrt(variance + epsilon) * scale + offset."""
    from tensorflow.core.framework import types_pb2

    for node in [n for n in nodes if n.op.startswith("FusedBatchNorm") and not n.attr["is_training"].b]:
        if node.attr["data_format"].s not in (b"", b"NHWC"):
            continue
        x, scale, offset, mean, variance = node.input[:5]
        epsilon = node.attr["epsilon"].f
        name = node.name

        def add(suffix: str, op: str, *inputs: str, name: str = name) -> str:
            made = nodes.add(name=f"{name}/{suffix}" if suffix else name, op=op, input=inputs)
            made.attr["T"].type = types_pb2.DT_FLOAT
            return str(made.name)

        constant = nodes.add(name=f"{name}/epsilon", op="Const")
        constant.attr["dtype"].type = types_pb2.DT_FLOAT
        constant.attr["value"].tensor.dtype = types_pb2.DT_FLOAT
        constant.attr["value"].tensor.tensor_shape.SetInParent()
        constant.attr["value"].tensor.float_val.append(epsilon)
        nodes.remove(node)
        factor = add("factor", "Mul", add("rsqrt", "Rsqrt", add("shifted", "AddV2", variance, constant.name)), scale)
        add("", "AddV2", add("scaled", "Mul", add("centred", "Sub", x, mean), factor), offset)
