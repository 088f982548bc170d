"""Graft engines that were built from ONNX into the SavedModel that they are of, for TensorFlow Serving.

The numeric core of a signature becomes one TRTEngineOp that holds the engine. The core's own operations stay with
it as its native segment, which answers where the engine does not fit a request; what `split` leaves on the host
stays around it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_pipeline import digest
from trt_pipeline.conversion import rebuild
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.freeze import LARGEST_FROZEN_BYTES, SignatureGraph
from trt_pipeline.conversion.split.parts import unique
from trt_pipeline.conversion.split.split import Split, split
from trt_pipeline.conversion.tftrt import availability
from trt_pipeline.conversion.tftrt.segment import ENGINE
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import TensorContract
from trt_pipeline.model.nodes import copy_of, node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2

# Nothing is built here, so nothing depends on it but what people read.
_MODES = {"fp32": "FP32", "tf32": "FP32", "fp16": "FP16", "int8": "INT8"}
_EDGES = frozenset({"bool", "int8", "float16", "float32", "int32"})
_WORKSPACE_BYTES = 2**30  # the op asks for a number; only a build would use it
_DEVICE = "GPU"


@dataclass(frozen=True)
class Grafted:
    """An engine for the core of one signature, with the binding names of `engine.build`, in the contract's order."""

    engine: Path
    precision: str
    narrowed: dict[str, str] = field(default_factory=dict)
    """Inputs and outputs of the core that the engine has in a smaller dtype, and their own."""
    kept: Collection[str] = ()
    """What `split` was given when the core was cut out."""


def engine_dtype(name: str, own: str, narrowed: Collection[str]) -> str:
    """The dtype in which an engine takes or gives the core's tensor ``name``.

    Raises:
        Unsupported: TRTEngineOp has no such dtype.
    """
    dtype = own if name not in narrowed else "float32" if own == "float64" else "int32"
    if dtype not in _EDGES:
        raise Unsupported(f"TensorFlow's TRTEngineOp cannot take or give '{name}', which is {dtype}: build the engine "
                          "with int32 or float32 in its place")
    return dtype


def graft(model: Path, tags: Sequence[str], cores: dict[str, Grafted], target: Path,
          largest: int = LARGEST_FROZEN_BYTES) -> None:
    """Write ``model`` with the engines of ``cores`` (signature -> engine) in it to the new folder ``target``.

    Engines are part of ``saved_model.pb`` where they fit there. Where they do not they become assets, and then the
    SavedModel loads on a machine with a GPU only. Signatures without an engine stay as they were.

    Args:
        largest: bytes that ``saved_model.pb`` may have.

    Raises:
        Unsupported: this TensorFlow has no TF-TRT, the signature cannot be cut, its weights are too large to fall
            back on, or TRTEngineOp lacks a dtype or precision that the engine has.
        RuntimeError: the written model's contract differs.
    """
    import tensorflow as tf

    if why_not := availability.examine().why_not_convert:
        raise Unsupported(why_not)
    loaded = tf.saved_model.load(str(model), tags=list(tags))
    contract = saved_model.read_contract(model, tuple(tags))
    # TensorFlow keeps engines under their node's name for the whole process.
    prefix = digest.of_value([digest.of_folder(model), {name: [digest.of_file(one.engine), one.precision]
                                                        for name, one in cores.items()}])[:10]
    names = {name: f"{ENGINE}_{prefix}_{number:03d}" for number, name in enumerate(cores)}
    wholes = {name: canonical(loaded.signatures[name]) for name in cores}
    parts = {name: split(whole, contract.signatures[name], cores[name].kept) for name, whole in wholes.items()}
    fallbacks = sum(whole.graph_def.ByteSize() for whole in wholes.values())
    if fallbacks > LARGEST_FROZEN_BYTES:
        raise Unsupported(f"{len(cores)} signatures with {fallbacks / 2**30:.1f} GiB of weights to fall back on do "
                          "not fit into one SavedModel's graph, which ends at 2 GiB")
    as_assets = fallbacks + sum(one.engine.stat().st_size for one in cores.values()) > largest
    graphs = {name: engrafted(wholes[name], parts[name], one, names[name], within=not as_assets)
              for name, one in cores.items()}
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        engines = {}
        for name, one in cores.items() if as_assets else ():
            file = Path(scratch, f"{saved_model.ENGINE_ASSET}{names[name]}")
            write_asset(file, one.engine.read_bytes(), list(parts[name].contract.inputs.values()))
            engines[names[name]] = _resource(names[name], file)
        rebuild.write(loaded, graphs, model, tuple(tags), target, engines)


def engrafted(whole: SignatureGraph, parts: Split, grafted: Grafted, name: str, *, within: bool) -> SignatureGraph:
    """The signature ``whole`` with one TRTEngineOp called ``name`` in place of its core.

    Args:
        parts: what `split` made of it.
        within: put the engine into the node; else it is looked for under ``name`` when the node runs.
    """
    graph_def = type(whole.graph_def)(versions=whole.graph_def.versions)
    if parts.before is not None:
        graph_def.node.extend(parts.before.graph_def.node)
    present = {node.name for node in graph_def.node}
    fed = {node_name(tensor) for tensor in whole.inputs.values()}
    graph_def.node.extend(node for node in whole.graph_def.node if node.name in fed - present)
    known = whole.inputs | (parts.before.outputs if parts.before is not None else {})
    known |= _add_engine(graph_def, known, parts, grafted, name, within)
    if parts.after is not None:
        _add_after(graph_def, parts.after, known)
        known |= parts.after.outputs
    segment = _native_segment(parts, grafted, f"{name}_native_segment")
    functions = {f.signature.name: f for part in (parts.before, parts.core, parts.after) if part is not None
                 for f in part.graph_def.library.function}
    graph_def.library.function.extend([*functions.values(), segment])
    present = {node.name for node in graph_def.node}
    return SignatureGraph(graph_def, whole.inputs, {output: known[output] for output in whole.outputs},
                          {key: handle for key, handle in whole.resources.items() if key in present})


def write_asset(file: Path, engine: bytes, inputs: Sequence[TensorContract]) -> None:
    """Write an engine as TRTEngineOp reads it from a file: a record that holds a message.

    The message has a shape for each input, which must be a definite one; engines with profiles are found by any.
    """
    import tensorflow as tf

    instance = instance_message()()
    for tensor in inputs:
        shape = instance.input_shapes.add()
        for size in tensor.shape or ():
            shape.dim.add(size=1 if size is None else size)
    instance.serialized_engine = engine
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(instance.SerializeToString())


@functools.cache
def instance_message() -> Any:
    """The class of TF-TRT's message TRTEngineInstance, which TensorFlow's wheels leave out."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_shape_pb2  # noqa: F401  (the message refers to it)

    file = descriptor_pb2.FileDescriptorProto(
        name="trt_pipeline/trt_engine_instance.proto", package="trt_pipeline", syntax="proto3",
        dependency=["tensorflow/core/framework/tensor_shape.proto"])
    message = file.message_type.add(name="TRTEngineInstance")
    kinds = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="input_shapes", number=1, label=kinds.LABEL_REPEATED, type=kinds.TYPE_MESSAGE,
                      type_name=".tensorflow.TensorShapeProto")
    message.field.add(name="serialized_engine", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_BYTES)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("trt_pipeline.TRTEngineInstance")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf 3


def _add_engine(graph_def: graph_pb2.GraphDef, known: dict[str, str], parts: Split, grafted: Grafted, name: str,
                within: bool) -> dict[str, str]:
    """Add the engine, with casts around it, to a graph that makes its inputs; its outputs by name."""
    if grafted.precision not in _MODES:
        raise Unsupported(f"TensorFlow's TRTEngineOp has no {grafted.precision}: its engines are of TensorRT 8")
    taken = {node.name for node in graph_def.node}
    if parts.after is not None:
        taken |= {node.name for node in parts.after.graph_def.node}
    inputs, outputs = parts.contract.inputs, parts.contract.outputs
    given = [_cast(graph_def, known[key], tensor.dtype, engine_dtype(key, tensor.dtype, grafted.narrowed), taken)
             for key, tensor in inputs.items()]
    node = graph_def.node.add(name=name, op=ENGINE, input=given)
    node.attr["segment_func"].func.name = f"{name}_native_segment"
    node.attr["serialized_segment"].s = grafted.engine.read_bytes() if within else b""
    node.attr["static_engine"].b = within
    node.attr["precision_mode"].s = _MODES[grafted.precision].encode()
    node.attr["profile_strategy"].s = b"Range"
    node.attr["workspace_size_bytes"].i = _WORKSPACE_BYTES
    node.attr["max_cached_engines_count"].i = 1
    node.attr["max_batch_size"].i = -1
    node.attr["use_calibration"].b = False
    # Absent, the first would mean that every shape begins with the batch; the second, that engines may be built.
    for key in ("_use_implicit_batch", "_allow_build_at_runtime", "_profile_generation_mode"):
        node.attr[key].b = False
    for side, tensors in (("In", inputs), ("Out", outputs)):
        types, shapes = node.attr[f"{side}T"].list, node.attr[f"{side.lower()}put_shapes"].list
        for key, tensor in tensors.items():
            types.type.append(_enum(engine_dtype(key, tensor.dtype, grafted.narrowed)))
            shapes.shape.add().CopyFrom(_shape(tensor))
    return {key: _cast(graph_def, f"{name}:{number}", engine_dtype(key, tensor.dtype, grafted.narrowed), tensor.dtype,
                       taken) for number, (key, tensor) in enumerate(outputs.items())}


def _add_after(graph_def: graph_pb2.GraphDef, after: SignatureGraph, known: dict[str, str]) -> None:
    """Add what comes after the engine, reading what it needs from ``known``."""
    made = {node_name(tensor): known[key] for key, tensor in after.inputs.items()}
    present = {node.name for node in graph_def.node}
    for node in after.graph_def.node:
        if node.name in made or node.name in present:  # what stands for another part's tensor, or a shared constant
            continue
        added = graph_def.node.add()
        added.CopyFrom(node)
        for position, source in enumerate(node.input):
            if not source.startswith("^"):
                added.input[position] = made.get(node_name(source), source)


def _native_segment(parts: Split, grafted: Grafted, name: str) -> function_pb2.FunctionDef:
    """The core as the function that an engine falls back to: it takes and gives what the engine does."""
    import tensorflow as tf
    from tensorflow.python.framework import graph_to_function_def

    taken = {node.name for node in parts.core.graph_def.node}
    with tf.Graph().as_default() as graph:
        arguments: list[tf.Tensor] = []
        fed: dict[str, tf.Tensor] = {}
        for key, tensor in parts.contract.inputs.items():
            dtype = engine_dtype(key, tensor.dtype, grafted.narrowed)
            argument = tf.compat.v1.placeholder(dtype, tensor.shape, unique(f"input_{len(arguments)}", taken))
            arguments.append(argument)
            same = dtype == tensor.dtype
            fed[parts.core.inputs[key]] = tf.identity(argument) if same else tf.cast(argument, tensor.dtype)
        made = tf.graph_util.import_graph_def(_without_waiting(parts.core), fed,
                                              [parts.core.outputs[key] for key in parts.contract.outputs], name="")
        results = [tf.cast(value, engine_dtype(key, value.dtype.name, grafted.narrowed))
                   for key, value in zip(parts.contract.outputs, made, strict=True)]
        # Not an argument itself, and no tensor twice: a function returns what it computes.
        results = [tf.identity(value) for value in results]
        operations = [op for op in graph.get_operations() if op.type != "Placeholder"]
        function = graph_to_function_def.graph_to_function_def(graph, operations, arguments, results)
    function.signature.name = name
    return function


def _without_waiting(core: SignatureGraph) -> graph_pb2.GraphDef:
    """The core's graph without control edges from its inputs: in a function, inputs are not nodes."""
    waits = {f"^{node_name(tensor)}" for tensor in core.inputs.values()}
    copy = copy_of(core.graph_def)
    for node in copy.node:
        kept = [source for source in node.input if source not in waits]
        if len(kept) < len(node.input):
            node.input[:] = kept
    return copy


def _cast(graph_def: graph_pb2.GraphDef, tensor: str, before: str, after: str, taken: set[str]) -> str:
    """``tensor`` in another dtype."""
    if before == after:
        return tensor
    node = graph_def.node.add(name=unique(f"{node_name(tensor)}/to_{after}", taken), op="Cast", input=[tensor])
    node.attr["SrcT"].type = _enum(before)
    node.attr["DstT"].type = _enum(after)
    return f"{node.name}:0"


def _shape(tensor: TensorContract) -> Any:
    import tensorflow as tf

    return tf.TensorShape(tensor.shape).as_proto()


def _enum(dtype: str) -> int:
    import tensorflow as tf

    return int(tf.dtypes.as_dtype(dtype).as_datatype_enum)


def _resource(name: str, file: Path) -> Any:
    from tensorflow.python.compiler.tensorrt import trt_convert

    return trt_convert._TRTEngineResource(name, str(file), maximum_cached_engines=1, device=_DEVICE)
