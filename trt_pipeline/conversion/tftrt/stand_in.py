"""Stand-ins for a SavedModel with TensorRT segments, which run where TensorRT cannot.

A stand-in is made from the very saved_model.pb that is shipped: each TRTEngineOp becomes a call of its
own native segment. As it is, it proves the graph surgery; with every float tensor inside the segments
rounded as FP16 rounds it, it estimates what the precision does. Weights and assets are linked, not copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trt_pipeline.conversion.tftrt import quantize
from trt_pipeline.conversion.tftrt.segment import ENGINE, call_natively, engines, read_as_calls
from trt_pipeline.model import saved_model
from trt_pipeline.model.nodes import every_node

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2

Kind = Literal["surgery", "estimate", "magnitudes"]
_LARGEST_HALF = float(np.finfo(np.float16).max)  # 65504
# These only move or choose values that have been rounded already.
_MOVING_OPS = frozenset({
    "Identity", "Reshape", "Transpose", "Squeeze", "ExpandDims", "Pack", "Unpack", "ConcatV2", "GatherV2", "Split",
    "SplitV", "StridedSlice", "Slice", "Relu", "MaxPool", "MaxPool3D", "Max", "Min", "Maximum", "Minimum", "Pad",
    "Tile", "BroadcastTo", "DepthToSpace", "SpaceToDepth", "SelectV2", "Select", "TopKV2", "Abs", "Neg",
    "QuantizeAndDequantizeV2"})


def write(model: Path, target: Path, kind: Kind, magnitudes: Path | None = None) -> None:
    """Write a stand-in of the SavedModel ``model`` into the new folder ``target``.

    Args:
        kind: "surgery" runs the segments as the original's float32 ops, quantization left out;
            "estimate" with the arithmetic of each engine's precision, FP16 saturating at 65504;
            "magnitudes" is the former without saturation or rounding, and writes a line
            "tensor maximum" to the file ``magnitudes`` for each float tensor that an FP16 segment makes.
    """
    parsed = saved_model.parse(model)
    for meta_graph in parsed.meta_graphs:
        _stand_in(meta_graph.graph_def, kind, magnitudes)
        meta_graph.meta_info_def.stripped_op_list.Clear()
    target.mkdir(parents=True)
    (target / "saved_model.pb").write_bytes(parsed.SerializeToString())
    for name in ("variables", "assets"):
        if (model / name).is_dir():
            (target / name).symlink_to((model / name).resolve(), target_is_directory=True)


def read_magnitudes(file: Path) -> dict[str, float]:
    """The largest magnitude of each tensor over everything that a "magnitudes" stand-in was fed."""
    found: dict[str, float] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        name, _, value = line.rpartition(" ")
        magnitude = float(value)
        if math.isnan(magnitude) or magnitude > found.get(name, -1.0):
            found[name] = magnitude
    return found


def _stand_in(graph_def: graph_pb2.GraphDef, kind: Kind, magnitudes: Path | None) -> None:
    # At INT8 too, TF-TRT lets TensorRT use FP16 for whatever is not quantized.
    halves = {node.attr["segment_func"].func.name for node in engines(graph_def)
              if node.attr["precision_mode"].s in (b"FP16", b"INT8")}
    for function in graph_def.library.function:
        if function.signature.name in halves and kind == "estimate":
            _round_to_half(function)
        elif function.signature.name in halves and kind == "magnitudes":
            _print_magnitudes(function, magnitudes)
        read_as_calls(function, {node.name for node in function.node_def if node.op == ENGINE})
    for node in every_node(graph_def):
        if kind == "surgery" and quantize.is_ours(node):
            _become_identity(node)
        elif node.op == ENGINE:
            call_natively(node, stateful=kind == "magnitudes")


def _become_identity(node: node_def_pb2.NodeDef) -> None:
    kind = node.attr["T"].type
    controls = [source for source in node.input[1:] if source.startswith("^")]
    del node.input[1:]
    node.input.extend(controls)
    node.attr.clear()
    node.op = "Identity"
    node.attr["T"].type = kind


def _float_tensors(function: function_pb2.FunctionDef) -> Iterator[tuple[str, str]]:
    """(tensor, name to show) of every float32 tensor that enters or is computed in ``function``."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry

    engine = function.signature.name.removesuffix("_native_segment")
    for number, argument in enumerate(function.signature.input_arg):
        if argument.type == types_pb2.DT_FLOAT:
            yield argument.name, f"input {number} of {engine}"
    for node in function.node_def:
        if node.op in _MOVING_OPS:
            continue
        definition = op_def_registry.get(node.op)
        for result in definition.output_arg if definition else ():
            # Ops with a variable number of results only move values (Split, Unpack).
            if not (result.number_attr or result.type_list_attr) and (
                    result.type or node.attr[result.type_attr].type) == types_pb2.DT_FLOAT:
                yield f"{node.name}:{result.name}:0", node.name


def _round_to_half(function: function_pb2.FunctionDef) -> None:
    """Round every float tensor of ``function`` to FP16 and back, as an engine at FP16 stores it."""
    from tensorflow.core.framework import types_pb2

    # What is only quantized never is FP16: rounded before, it would be rounded twice.
    kept = {source for node in function.node_def if not quantize.is_ours(node) for source in node.input}
    kept |= set(function.ret.values())
    tensors = [tensor for tensor, _ in _float_tensors(function) if tensor in kept]
    readers = list(function.node_def)
    for sign, name in ((-1, "lowest"), (1, "highest")):
        _constant(function, f"half/{name}", sign * _LARGEST_HALF)
    rounded = {}
    for number, tensor in enumerate(tensors):
        clipped = _add(function, f"half/clip_{number}", "ClipByValue",
                       [tensor, "half/lowest:output:0", "half/highest:output:0"], T=types_pb2.DT_FLOAT)
        half = _add(function, f"half/to_{number}", "Cast", [f"{clipped}:output:0"],
                    SrcT=types_pb2.DT_FLOAT, DstT=types_pb2.DT_HALF)
        back = _add(function, f"half/from_{number}", "Cast", [f"{half}:y:0"],
                    SrcT=types_pb2.DT_HALF, DstT=types_pb2.DT_FLOAT)
        rounded[tensor] = f"{back}:y:0"
    _redirect(function, readers, rounded)


def _print_magnitudes(function: function_pb2.FunctionDef, file: Path | None) -> None:
    """Write the largest magnitude of every float tensor of ``function`` to ``file``, each time it runs."""
    from tensorflow.core.framework import types_pb2

    tensors = list(_float_tensors(function))
    readers = list(function.node_def)
    function.signature.is_stateful = True
    _constant(function, "magnitude/zero", 0, types_pb2.DT_INT32)
    _constant(function, "magnitude/one", 1, types_pb2.DT_INT32)
    watched = {}
    for number, (tensor, shown) in enumerate(tensors):
        name = f"magnitude/{number}"
        absolute = _add(function, f"{name}/abs", "Abs", [tensor], T=types_pb2.DT_FLOAT)
        rank = _add(function, f"{name}/rank", "Rank", [tensor], T=types_pb2.DT_FLOAT)
        axes = _add(function, f"{name}/axes", "Range",
                    ["magnitude/zero:output:0", f"{rank}:output:0", "magnitude/one:output:0"], Tidx=types_pb2.DT_INT32)
        largest = _add(function, f"{name}/max", "Max", [f"{absolute}:y:0", f"{axes}:output:0"],
                       T=types_pb2.DT_FLOAT, Tidx=types_pb2.DT_INT32)
        line = _add(function, f"{name}/line", "StringFormat", [f"{largest}:output:0"])
        node = function.node_def[-1]
        node.attr["T"].list.type.append(types_pb2.DT_FLOAT)
        node.attr["template"].s = f"{shown} {{}}".encode()
        node.attr["placeholder"].s = b"{}"
        node.attr["summarize"].i = 1
        printed = _add(function, f"{name}/print", "PrintV2", [f"{line}:output:0"])
        function.node_def[-1].attr["output_stream"].s = f"file://{file}".encode()
        function.node_def[-1].attr["end"].s = b"\n"
        passed = _add(function, f"{name}/passed", "Identity", [tensor, f"^{printed}"], T=types_pb2.DT_FLOAT)
        watched[tensor] = f"{passed}:output:0"
    _redirect(function, readers, watched)


def _redirect(function: function_pb2.FunctionDef, readers: Iterable[Any], moved: dict[str, str]) -> None:
    for node in readers:
        for position, source in enumerate(node.input):
            node.input[position] = moved.get(source, source)
    for key, source in list(function.ret.items()):
        function.ret[key] = moved.get(source, source)


def _add(function: function_pb2.FunctionDef, name: str, op: str, inputs: list[str], **types: int) -> str:
    node = function.node_def.add(name=name, op=op, input=inputs)
    for key, value in types.items():
        node.attr[key].type = value
    return name


def _constant(function: function_pb2.FunctionDef, name: str, value: float, kind: int | None = None) -> None:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import tensor_util

    kind = types_pb2.DT_FLOAT if kind is None else kind
    node = function.node_def.add(name=name, op="Const")
    node.attr["dtype"].type = kind
    node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value, dtype=kind))
