"""Move a model to the opset in which every operator that runtimes have in bfloat16 may be written in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trt_pipeline.conversion.onnx_precision.bodies import Body, bodies_of

if TYPE_CHECKING:
    import onnx

# Convolutions and pooling may be bfloat16 from 22 on; the format version is the one that goes with it.
OPSET = 22
_IR_VERSION = 10
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
                         "ReduceLogSumExp", "ReduceSumSquare"})


def raise_opset(model: onnx.ModelProto) -> None:
    """Rewrite a model of opset 17 for opset 22, in place, bodies included."""
    for body in bodies_of(model):
        for node in body.graph.node:
            if node.op_type in _REDUCTIONS and not node.domain:
                _axes_as_input(body, node)
            elif node.op_type == "Split" and len(node.input) < 2 and not node.domain:
                node.attribute.add(name="num_outputs", type=2, i=len(node.output))
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET
    model.ir_version = max(model.ir_version, _IR_VERSION)


def _axes_as_input(body: Body, node: onnx.NodeProto) -> None:
    from onnx import numpy_helper

    for place, attribute in reversed(list(enumerate(node.attribute))):
        if attribute.name == "axes":
            name = f"{node.output[0]}/axes"
            body.graph.initializer.append(numpy_helper.from_array(np.array(attribute.ints, np.int64), name))
            node.input.append(name)
            del node.attribute[place]
