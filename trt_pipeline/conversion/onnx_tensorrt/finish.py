"""Make an ONNX file ready for TensorRT's parser: names that are one node's, known shapes, types it has at the ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.conversion.onnx_precision.quantize import name_nodes
from trt_pipeline.conversion.onnx_tensorrt import edges, operators
from trt_pipeline.engine.generation import Version
from trt_pipeline.errors import Unsupported, one_line
from trt_pipeline.model.contract import SignatureContract

if TYPE_CHECKING:
    import onnx


def finish(file: Path, signature: SignatureContract, version: Version,
           narrowed: dict[str, str] | None = None) -> dict[str, str]:
    """Rewrite ``file``, the export of ``signature``, weights beside it left alone.

    Args:
        narrowed: what this returned for a file that the same inputs will be given to.

    Returns:
        Inputs and outputs that are int32 now, with the dtype that they had.

    Raises:
        Unsupported: the model has operators, or computes with integers of a size, that TensorRT has not, or
            ONNX Runtime does not load the result.
    """
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    if narrowed is None:
        operators.refuse(model, signature.name, version)
        narrowed = edges.to_narrow(model, signature, version)
    edges.narrow(model, narrowed, signature.name)
    distinguish(model)
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), str(file))
    _check(file)
    return narrowed


def _check(file: Path) -> None:
    """Hold ``file`` against the standard, and load it where ONNX Runtime's CPU can."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        onnx.checker.check_model(str(file), full_check=True)
        ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        # Of bfloat16 it has casts only.
        if "NOT_IMPLEMENTED" not in str(error):
            raise Unsupported(f"ONNX Runtime does not load what was made: {one_line(error)}") from error


def distinguish(model: onnx.ModelProto) -> None:
    """Give every node of ``model``, bodies included, a name of its own, by which TensorRT's layers are known.

    Nodes that have one keep it; so done twice, it changes nothing.
    """
    name_nodes(model)
    taken: set[str] = set()
    for body in bodies_of(model):
        for node in body.graph.node:
            name, number = node.name, 1
            while name in taken:
                name, number = f"{node.name}__{number}", number + 1
            node.name = name
            taken.add(name)
