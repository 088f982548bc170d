"""Run Grappler's TensorRT pass: what TensorRT can take becomes TRTEngineOps, loop bodies included.

`TrtGraphConverterV2` refuses a machine without a GPU by a check in Python; the pass behind it needs
neither GPU nor TensorRT's library. Each engine keeps its nodes as a function (the native segment).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion import grappler
from trt_pipeline.model.nodes import called_functions, copy_of, every_node, scopes
from trt_pipeline.model.operations import STRUCTURAL_OPS

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2
    from tensorflow.core.protobuf import config_pb2

ENGINE = "TRTEngineOp"
# DT_FLOAT, DT_INT32, DT_INT8, DT_BOOL, DT_HALF: what the op's definition allows.
_RETURNABLE_TYPES = frozenset({1, 3, 6, 10, 19})
# Fewer nodes than this, constants counted, are not worth an engine: NVIDIA's default.
_MINIMUM_SEGMENT_SIZE = 3
# As much as the GPU has, NVIDIA's default. The attribute of loop bodies is read as an int32.
_WORKSPACE_BYTES = 2**63 - 513
_WORKSPACE_BYTES_IN_BODIES = 2**31 - 1
_BODY_ATTRIBUTE = "_tftrt_"
_TIDYING_PASSES = ("pruning", "constfold", "dependency", "common_subgraph_elimination")


def tidy(graph_def: graph_pb2.GraphDef, inputs: list[str], outputs: list[str]) -> graph_pb2.GraphDef:
    """Fold and prune, and nothing that would hide an operation from TensorRT or a Q/DQ pair from the pass."""
    from tensorflow.core.protobuf import rewriter_config_pb2

    config = _configuration()
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    return grappler.run(graph_def, inputs, outputs, config)


def segment(graph_def: graph_pb2.GraphDef, inputs: list[str], outputs: list[str], precision: str,
            prefix: str, *, quantized: bool = False, calibrate: bool = False,
            profile_strategy: str = "range") -> graph_pb2.GraphDef:
    """``graph_def`` with TRTEngineOps at ``precision`` ("fp32", "fp16", "int8").

    Args:
        inputs, outputs: tensor names.
        prefix: goes into every engine's name. TensorFlow keeps engines under their node's name for
            the whole process, so two models that are served together need different ones.
        quantized: the graph brings ranges of its own, for "int8".
        calibrate: let TensorRT's own calibrator find the int8 ranges, on a GPU.
        profile_strategy: TF-TRT's own: what profiles it makes of the shapes that it sees.
    """
    # Under FP16, every Cast from an integer in the graph goes through half, and integers from 65504
    # on become infinite. So the pass runs at FP32, and the engines are told their precision after it.
    mode = "INT8" if calibrate or (quantized and precision == "int8") else "FP32"
    marked = copy_of(graph_def)
    parameters = _parameters(mode, calibrate, profile_strategy)
    _mark_bodies(marked, parameters)
    segmented = grappler.run(marked, inputs, outputs, _with_tensorrt(parameters))
    for node in engines(segmented):
        if precision == "fp16" and node.attr["precision_mode"].s == b"FP32":
            node.attr["precision_mode"].s = b"FP16"
    for function in segmented.library.function:
        for key in [key for key in function.attr if key.startswith(_BODY_ATTRIBUTE)]:
            del function.attr[key]
    _dissolve_idle_engines(segmented, prefix)
    _rename_engines(segmented, prefix)
    return segmented


def call_natively(node: node_def_pb2.NodeDef, stateful: bool = False) -> None:
    """Turn an engine into a call of its own native segment, in place."""
    types_in, types_out = list(node.attr["InT"].list.type), list(node.attr["OutT"].list.type)
    function = node.attr["segment_func"].func.name
    node.attr.clear()
    node.op = "StatefulPartitionedCall" if stateful else "PartitionedCall"
    node.attr["f"].func.name = function
    for key, types in (("Tin", types_in), ("Tout", types_out)):
        node.attr[key].list.SetInParent()
        node.attr[key].list.type.extend(types)
    for key in ("config", "config_proto", "executor_type"):
        node.attr[key].s = b""


def read_as_calls(function: function_pb2.FunctionDef, engine_names: set[str]) -> None:
    """Let ``function`` read the engines in it, ``engine_names``, as calls: in a body, outputs go by their
    argument's name, and the two ops name theirs differently."""

    def moved(tensor: str) -> str:
        parts = tensor.split(":")
        return f"{parts[0]}:output:{parts[2]}" if len(parts) == 3 and parts[0] in engine_names else tensor

    if not engine_names:
        return
    for node in function.node_def:
        for position, source in enumerate(node.input):
            node.input[position] = moved(source)
    for key, source in list(function.ret.items()):
        function.ret[key] = moved(source)


def _dissolve_idle_engines(graph_def: graph_pb2.GraphDef, prefix: str) -> None:
    """Give back to TensorFlow what only counts and measures shapes, and what an engine could not return.

    The pass makes engines of such arithmetic too; on a GPU they cost copies and save nothing.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}

    def is_idle(node: node_def_pb2.NodeDef) -> bool:
        segment_function = functions[node.attr["segment_func"].func.name]
        returned = set(node.attr["OutT"].list.type)
        return not returned <= _RETURNABLE_TYPES or not any(map(_computes_floats, segment_function.node_def))

    for function in graph_def.library.function:
        read_as_calls(function, {n.name for n in function.node_def if n.op == ENGINE and is_idle(n)})
    for count, node in enumerate([node for node in engines(graph_def) if is_idle(node)]):
        # The pass counts its functions through the whole process, and a model should not depend on that.
        segment_function = node.attr["segment_func"].func
        functions[segment_function.name].signature.name = f"idle_{prefix}_{count:03d}"
        segment_function.name = f"idle_{prefix}_{count:03d}"
        call_natively(node)


def _computes_floats(node: node_def_pb2.NodeDef) -> bool:
    """Whether ``node`` makes floating-point numbers out of others."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if node.op in STRUCTURAL_OPS or definition is None:
        return False
    made = {result.type or node.attr[result.type_attr].type for result in definition.output_arg}
    return bool(made & {types_pb2.DT_FLOAT, types_pb2.DT_HALF})


def engines(graph_def: graph_pb2.GraphDef) -> list[node_def_pb2.NodeDef]:
    """The TRTEngineOps of ``graph_def``, those in loop and branch bodies included."""
    return [node for node in every_node(graph_def) if node.op == ENGINE]


def _configuration() -> config_pb2.ConfigProto:
    from tensorflow.core.protobuf import config_pb2

    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    # Otherwise the Q/DQ of a constant is folded into it, and TensorRT sees no range.
    rewrite.experimental_disable_folding_quantization_emulation = True
    rewrite.optimizers.extend(_TIDYING_PASSES)
    return config


def _with_tensorrt(parameters: dict[str, Any]) -> config_pb2.ConfigProto:
    from tensorflow.core.protobuf import rewriter_config_pb2

    config = _configuration()
    rewrite = config.graph_options.rewrite_options
    rewrite.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    tensorrt = rewrite.custom_optimizers.add(name="TensorRTOptimizer")
    rewrite.custom_optimizers.add(name="constfold")
    for key, value in parameters.items():
        _set(tensorrt.parameter_map[key], value)
    return config


def _parameters(mode: str, calibrate: bool, profile_strategy: str) -> dict[str, Any]:
    return {
        "minimum_segment_size": _MINIMUM_SEGMENT_SIZE, "max_workspace_size_bytes": _WORKSPACE_BYTES,
        "precision_mode": mode, "maximum_cached_engines": 1, "use_calibration": calibrate,
        "allow_build_at_runtime": True,
        # False would build engines in the pass, and crash where there is no GPU.
        "is_dynamic_op": True,
        # Explicit batch: larger segments, and the only mode with profiles.
        "use_implicit_batch": False, "profile_strategy": profile_strategy}


def _mark_bodies(graph_def: graph_pb2.GraphDef, parameters: dict[str, Any]) -> None:
    """Ask for the bodies of loops, branches and calls too; the pass wants all twelve attributes or skips them."""
    functions = {f.signature.name: f for f in graph_def.library.function}
    wanted = {called.name for node in every_node(graph_def) if node.op not in (ENGINE, "While", "StatelessWhile")
              for called in called_functions(node)}
    wanted |= {node.attr["body"].func.name for node in every_node(graph_def) if node.op in ("While", "StatelessWhile")}
    known = {**parameters, "max_workspace_size_bytes": _WORKSPACE_BYTES_IN_BODIES}
    attributes = {
        "convert_function": True, "trt_logger_name": "DefaultLogger", "max_batch_size": 1,
        "max_cached_engines": known.pop("maximum_cached_engines"), "is_dyn_op": known.pop("is_dynamic_op"), **known}
    for name in wanted & functions.keys():
        for key, value in attributes.items():
            _set(functions[name].attr[_BODY_ATTRIBUTE + key], value)


def _set(field: Any, value: bool | int | str) -> None:
    if isinstance(value, bool):
        field.b = value
    elif isinstance(value, int):
        field.i = value
    else:
        field.s = value.encode()


def _rename_engines(graph_def: graph_pb2.GraphDef, prefix: str) -> None:
    functions = {f.signature.name: f for f in graph_def.library.function}
    count = 0
    for nodes, owner in scopes(graph_def):
        names = {}
        for node in nodes:
            if node.op == ENGINE:
                names[node.name] = f"{ENGINE}_{prefix}_{count:03d}"
                count += 1
        for node in nodes if names else ():
            node.name = names.get(node.name, node.name)
            for position, source in enumerate(node.input):
                node.input[position] = _renamed(source, names)
            if node.op == ENGINE:
                segment_function = node.attr["segment_func"].func
                functions[segment_function.name].signature.name = f"{node.name}_native_segment"
                segment_function.name = f"{node.name}_native_segment"
        for table in (owner.ret, owner.control_ret) if owner is not None and names else ():
            for key in list(table):
                table[key] = _renamed(table[key], names)


def _renamed(tensor: str, names: dict[str, str]) -> str:
    control = "^" if tensor.startswith("^") else ""
    name, colon, rest = tensor[len(control):].partition(":")
    return control + names.get(name, name) + colon + rest
