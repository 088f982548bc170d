"""One frozen signature to ONNX, through tf2onnx, in bounded memory and checked for what it left in."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.conversion.freeze import CONTROL_FLOW, SignatureGraph
from trt_pipeline.conversion.onnx_loops import declare_counters, hoist_loop_constants
from trt_pipeline.conversion.onnx_while import with_counters
from trt_pipeline.conversion.weights import Weights, strip_weights
from trt_pipeline.errors import Unsupported, one_line
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.model.nodes import copy_of, every_node

if TYPE_CHECKING:
    import onnx
    from tensorflow.core.framework import graph_pb2

# LayerNormalization exists from 17 on, ReduceMean's axes are still an attribute, and TensorRT 8.6
# to 11, ONNX Runtime and Triton all load it.
OPSET = 17
# The format version that goes with opset 17; a newer one would keep older servers from loading it.
IR_VERSION = 8
# Above this a model's weights go to a file of their own; far below protobuf's 2 GiB because
# serializing in memory costs several times the size.
_LARGEST_INLINE_BYTES = 2**28
# Where weights may begin in their file: a page, so that they can be mapped.
_ALIGNMENT = 4096


def export(frozen: SignatureGraph, signature: SignatureContract, target: Path, *,
           consume: bool = False) -> dict[str, Any]:
    """Write ``target`` (``*.onnx``) with the signature's own input and output names.

    tf2onnx copies the whole graph, weights and all, before each of its passes (9.9 GB for
    ResNet50's 102 MB). So large float constants are taken out first and put back into its result;
    where the graph has loops that would turn them into loop state, so there they stay and are
    hoisted out of the loop afterwards.

    Args:
        consume: take the weights out of ``frozen`` itself, which is of no use afterwards, instead of a copy.

    Returns:
        Facts: nodes per type, how many loop weights were hoisted.

    Raises:
        Unsupported: tables or strings reach into the signature, tf2onnx cannot convert an
            operation, or what it made does not load in ONNX Runtime.
    """
    import onnx

    if frozen.resources:
        raise Unsupported(f"signature {signature.name} uses a look-up table, which ONNX has no form for")
    given = frozen.graph_def if consume else copy_of(frozen.graph_def)
    graph_def, outputs = with_counters(given, frozen.outputs)
    frozen = replace(frozen, outputs=outputs)
    weights = dict(frozen.weights)
    if not _has_control_flow(graph_def):
        graph_def, stripped = strip_weights(graph_def)
        weights |= stripped
        del stripped
    model = _convert(graph_def, frozen, sorted(weights), signature)
    model.ir_version = IR_VERSION
    declare_counters(model)
    hoisted = hoist_loop_constants(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = target.with_suffix(".raw.onnx")
    large = sum(w.nbytes for w in weights.values()) > _LARGEST_INLINE_BYTES
    _attach(model, weights, raw if large else None)
    _name_free_dimensions(model, signature)
    _refuse_foreign_ops(model, signature.name)
    onnx.save(model, str(raw))
    del model
    _fold(raw, target, large)
    written = onnx.load(str(target), load_external_data=False)
    _refuse_foreign_ops(written, signature.name)
    operations = Counter(node.op_type for node in written.graph.node)
    return {"nodes": dict(operations.most_common(8)), "loop weights hoisted": hoisted}


def _has_control_flow(graph_def: graph_pb2.GraphDef) -> bool:
    return any(node.op in CONTROL_FLOW for node in every_node(graph_def))


def _convert(graph_def: graph_pb2.GraphDef, frozen: SignatureGraph, stripped: list[str],
             signature: SignatureContract) -> onnx.ModelProto:
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx
    from tf2onnx.optimizer import back_to_back_optimizer

    # tf2onnx 1.16 and 1.17 merge Reshape -> Reshape without regard to 0 ('copy this dimension') in
    # the second shape, which makes every attention block with dynamic shapes wrong.
    back_to_back_optimizer._func_map.pop(("Reshape",), None)
    inputs = [*frozen.inputs.values(), *(f"{name}:0" for name in stripped)]
    outputs = list(frozen.outputs.values())
    renamed = {tensor: name for name, tensor in (frozen.inputs | frozen.outputs).items()}
    try:
        with tf.Graph().as_default():
            tf.import_graph_def(graph_def, name="")
            graph_def = tf_loader.tf_optimize(inputs, outputs, graph_def)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
            converted = tfonnx.process_tf_graph(graph, opset=OPSET, input_names=inputs, output_names=outputs,
                                                tensors_to_rename=renamed)
            # Without catch_errors: it keeps a deep copy of the graph for each pass.
            return optimizer.optimize_graph(converted, catch_errors=False).make_model(signature.name)
    except (ValueError, RuntimeError, KeyError, AssertionError, NotImplementedError) as error:
        raise Unsupported(f"tf2onnx cannot convert signature {signature.name}: "
                          f"{one_line(error)}") from error


def _attach(model: onnx.ModelProto, weights: Weights, beside: Path | None) -> None:
    """Put the stripped weights back: the placeholder inputs become initializers.

    Args:
        beside: the file that ``model`` will be in, where its weights are to be in one of their own.
    """
    from onnx import numpy_helper

    inputs = {value.name: value.name.split(":")[0] for value in model.graph.input}
    kept = [value for value in model.graph.input if inputs[value.name] not in weights]
    with open(f"{beside}.data", "wb") if beside else nullcontext() as data:
        for name, weight in inputs.items():
            if weight in weights:
                value = weights.pop(weight)
                written = numpy_helper.from_array(value, name) if data is None else _external(value, name, data)
                model.graph.initializer.append(written)
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _external(value: npt.NDArray[Any], name: str, data: IO[bytes]) -> onnx.TensorProto:
    """Write ``value`` at the end of ``data``, without a copy of it in memory."""
    import onnx

    data.seek(-(-data.tell() // _ALIGNMENT) * _ALIGNMENT)
    offset = data.tell()
    data.write(np.ascontiguousarray(value).data)
    tensor = onnx.TensorProto(name=name, dims=value.shape, data_location=onnx.TensorProto.EXTERNAL,
                              data_type=onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    for key, entry in (("location", Path(data.name).name), ("offset", offset), ("length", value.nbytes)):
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


def _name_free_dimensions(model: onnx.ModelProto, signature: SignatureContract) -> None:
    """Name free dimensions ``batch`` and ``<tensor>_<axis>``, from the contract, not from tf2onnx's guesses."""
    tensors = signature.inputs | signature.outputs
    for value in (*model.graph.input, *model.graph.output):
        shape = tensors[value.name].shape
        if shape is None:
            continue
        dims = value.type.tensor_type.shape.dim
        while len(dims) < len(shape):
            dims.add()
        for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
            dim.Clear()
            if size is None:
                dim.dim_param = "batch" if axis == 0 else f"{value.name}_{axis}"
            else:
                dim.dim_value = size


def _refuse_foreign_ops(model: onnx.ModelProto, signature: str) -> None:
    """tf2onnx reports success with TensorFlow operations left in; so look for them."""
    import onnx

    def walk(graph: onnx.GraphProto) -> Any:
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    yield from walk(body)

    foreign = Counter(node.op_type for node in walk(model.graph)
                      if node.domain or not onnx.defs.has(node.op_type, OPSET, ""))
    if foreign:
        names = ", ".join(f"{op} x{count}" for op, count in foreign.most_common(5))
        raise Unsupported(f"signature {signature} has operations without an ONNX form: {names}")


def _fold(raw: Path, target: Path, large: bool) -> None:
    """Let ONNX Runtime fold constants, transposes and batch norms of ``raw``; the result is standard ONNX.

    Opening the session is also the proof that the model loads. ``raw`` goes.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    # Nothing is run: a second copy of the weights, in the order of its kernels, would be of no use.
    options.add_session_config_entry("session.disable_prepacking", "1")
    if large:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name",
                                         f"{target.name}.data")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        ort.InferenceSession(str(raw), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise Unsupported(f"ONNX Runtime does not load what tf2onnx made: {one_line(error)}") from error
    finally:
        raw.unlink()
        raw.with_name(f"{raw.name}.data").unlink(missing_ok=True)
