"""Give every while loop the two variables that tf2onnx takes for granted.

TensorFlow's own loops begin with a counter and a number of iterations at most, and tf2onnx drops the
first two variables of every loop for that reason, whatever they are. Loops that were simplified
(`conversion.loops`) may have lost them, since nothing reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trt_pipeline.conversion import loops
from trt_pipeline.model.nodes import copy_of, every_node
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2

_DT_INT32 = 3
# How TensorFlow names the arguments of a body, after the name of the loop; and what they start from.
_FIRST = (("loop_counter", 0), ("maximum_iterations", -1))


def with_counters(graph_def: graph_pb2.GraphDef, outputs: dict[str, str]) -> tuple[
        graph_pb2.GraphDef, dict[str, str]]:
    """A graph whose loops begin with a counter and a maximum, and ``outputs`` as they are called in it.

    It is a copy, save where there is no loop. The loop's condition goes on to decide alone: what is put
    in counts nothing and limits nothing.
    """
    if not any(node.op in loops.LOOPS for node in every_node(graph_def)):
        return graph_def, outputs
    copy = copy_of(graph_def)
    functions = {f.signature.name: f for f in copy.library.function}
    outputs = dict(outputs)
    patched: dict[str, list[int]] = {}
    for scope in scopes_of(copy):
        for loop in [node for node in scope.nodes if node.op in loops.LOOPS]:
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
    made_room = _with_room(len(function.signature.input_arg), position)
    function.signature.input_arg.add(name=name, type=_DT_INT32)
    _move_last(function.signature.input_arg, position)
    for table in (function.arg_attr, function.resource_arg_unique_id):
        loops.renumber(table, made_room)
    if returned:
        result = function.signature.output_arg.add(name=f"{name}_out", type=_DT_INT32)
        function.ret[result.name] = name
        _move_last(function.signature.output_arg, position)


def _add_variable(scope: Scope, loop: node_def_pb2.NodeDef, position: int, outputs: dict[str, str]) -> dict[str, str]:
    kind, value = _FIRST[position]
    made_room = _with_room(len(loop.attr["T"].list.type), position)
    inputs, types = list(loop.input), list(loop.attr["T"].list.type)
    inputs.insert(position, scope.add_constant(f"{loop.name}/{kind}_put_in", np.int32(value)))
    types.insert(position, _DT_INT32)
    loops.replace_field(loop.input, inputs)
    loops.replace_field(loop.attr["T"].list.type, types)
    shapes = loop.attr["output_shapes"].list.shape
    if shapes:
        shapes.add()
        _move_last(shapes, position)
    loops.forget_indices(loop)
    loops.move_readers(scope.nodes, scope.function, loop.name, made_room)
    if scope.function is not None:
        return outputs
    return {name: loops.renumbered_output(tensor, loop.name, made_room, in_function=False)
            for name, tensor in outputs.items()}


def _with_room(count: int, position: int) -> dict[int, int]:
    """The numbers of ``count`` variables before and after one comes in at ``position``."""
    return {number: number + (number >= position) for number in range(count)}


def _move_last(field: Any, position: int) -> None:
    """Move the last element of a repeated field of messages to ``position``."""
    elements = list(field)
    elements.insert(position, elements.pop())
    loops.replace_field(field, elements)
