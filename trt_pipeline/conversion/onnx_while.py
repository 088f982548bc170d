"""Give every while loop the two variables that tf2onnx takes for granted.

TensorFlow's own loops begin with a counter and a number of iterations at most, and tf2onnx drops the
first two variables of every loop for that reason, whatever they are. Loops that were simplified
(`conversion.loops`) may have lost them, since nothing reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.model.nodes import copy_of, every_node, node_name
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2

_LOOPS = ("While", "StatelessWhile")
_DT_INT32 = 3
# How TensorFlow names the arguments of a body, after the name of the loop; and what they start from.
_FIRST = (("loop_counter", 0), ("maximum_iterations", -1))


def with_counters(graph_def: graph_pb2.GraphDef, outputs: dict[str, str]) -> tuple[
        graph_pb2.GraphDef, dict[str, str]]:
    """A graph whose loops begin with a counter and a maximum, and ``outputs`` as they are called in it.

    It is a copy, save where there is no loop. The loop's condition goes on to decide alone: what is put
    in counts nothing and limits nothing.
    """
    if not any(node.op in _LOOPS for node in every_node(graph_def)):
        return graph_def, outputs
    copy = copy_of(graph_def)
    functions = {f.signature.name: f for f in copy.library.function}
    outputs = dict(outputs)
    patched: dict[str, list[int]] = {}
    for scope in scopes_of(copy):
        for loop in [node for node in scope.nodes if node.op in _LOOPS]:
            body, condition = (functions[loop.attr[key].func.name] for key in ("body", "cond"))
            name = body.signature.name
            if name not in patched:
                patched[name] = _lacking(body)
                for position in patched[name]:
                    _add_argument(body, position, returned=True)
                    _add_argument(condition, position, returned=False)
            for position in patched[name]:
                outputs = _add_variable(scope, loop, position, outputs)
    return copy, outputs


def _lacking(body: function_pb2.FunctionDef) -> list[int]:
    names = [argument.name for argument in body.signature.input_arg]
    missing, position = [], 0
    for number, (kind, _) in enumerate(_FIRST):
        if position < len(names) and kind in names[position]:
            position += 1
        else:
            missing.append(number)
    return missing


def _add_argument(function: function_pb2.FunctionDef, position: int, returned: bool) -> None:
    name = f"{_FIRST[position][0]}_put_in"
    argument = function.signature.input_arg.add()
    argument.name, argument.type = name, _DT_INT32
    _move_last(function.signature.input_arg, position)
    for table in (function.arg_attr, function.resource_arg_unique_id):
        _shift(table, position)
    if returned:
        result = function.signature.output_arg.add()
        result.name, result.type = f"{name}_out", _DT_INT32
        _move_last(function.signature.output_arg, position)
        function.ret[result.name] = name


def _add_variable(scope: Scope, loop: node_def_pb2.NodeDef, position: int, outputs: dict[str, str]) -> dict[str, str]:
    from tensorflow.python.framework import tensor_util

    kind, value = _FIRST[position]
    start = scope.nodes.add(name=f"{loop.name}/{kind}_put_in", op="Const")
    start.attr["dtype"].type = _DT_INT32
    start.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value, shape=[]))
    inputs = list(loop.input)
    inputs.insert(position, start.name if scope.function is None else f"{start.name}:output:0")
    types = list(loop.attr["T"].list.type)
    types.insert(position, _DT_INT32)
    shapes = loop.attr["output_shapes"].list.shape
    if shapes:
        shapes.add()
        _move_last(shapes, position)
    for key in [key for key in loop.attr if key.startswith(("_read_only", "_num_original", "_output_shapes"))]:
        del loop.attr[key]
    _set(loop.input, inputs)
    _set(loop.attr["T"].list.type, types)

    def moved(tensor: str) -> str:
        if tensor.startswith("^") or node_name(tensor) != loop.name:
            return tensor
        _, colon, last = tensor.rpartition(":")
        index = int(last) if colon else 0
        return f"{loop.name}{':output' if scope.function else ''}:{index + (index >= position)}"

    for node in scope.nodes:
        _set(node.input, [moved(source) for source in node.input])
    if scope.function is None:
        return {name: moved(tensor) for name, tensor in outputs.items()}
    for key, source in list(scope.function.ret.items()):
        scope.function.ret[key] = moved(source)
    return outputs


def _move_last(field: Any, position: int) -> None:
    """Move the last element of a repeated field of messages to ``position``."""
    elements = [type(element).FromString(element.SerializeToString()) for element in field]
    elements.insert(position, elements.pop())
    _set(field, elements)


def _set(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)


def _shift(table: Any, position: int) -> None:
    """Renumber a protobuf map that is keyed by argument number, one argument having come in at ``position``."""
    held = {}
    for key in list(table):
        value = table[key]
        held[key] = type(value).FromString(value.SerializeToString()) if hasattr(value, "CopyFrom") else value
        del table[key]
    for key, value in held.items():
        number = key + (key >= position)
        if hasattr(value, "CopyFrom"):
            table[number].CopyFrom(value)
        else:
            table[number] = value
