"""Make a frozen graph's loops hold their constants themselves, for passes that look at one body at a time.

Freezing hands weights to a loop as loop variables: inside the body they are arguments of unknown
shape, which neither TensorRT nor a quantizer sees through. Here such constants move into
the body, the detours that freezing left go, and loop variables that nothing reads any more are dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trt_pipeline.model.nodes import called_functions, copy_of, every_node, node_name, scopes

if TYPE_CHECKING:
    from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2

LOOPS = ("While", "StatelessWhile")


def inline_constants(graph_def: graph_pb2.GraphDef, kept: Iterable[str]) -> graph_pb2.GraphDef:
    """A copy of ``graph_def`` whose loop bodies hold their constants themselves.

    Args:
        kept: tensor names that must go on existing: the graph's inputs and outputs.
    """
    copy = copy_of(graph_def)
    functions = {f.signature.name: f for f in copy.library.function}
    calls = Counter(called.name for node in every_node(copy) for called in called_functions(node))
    # Outermost first: a constant that a loop hands on to a loop inside it moves twice.
    pending = [copy.node]
    of_loops: set[str] = set()
    visited: set[str] = set()
    while pending:
        nodes = pending.pop(0)
        by_name = {node.name: node for node in nodes}
        for loop in [node for node in nodes if node.op in LOOPS]:
            body, condition = functions[loop.attr["body"].func.name], functions[loop.attr["cond"].func.name]
            if calls[body.signature.name] == 1:
                _note_shapes(loop, body)
                _sink(by_name, loop, body)
            of_loops |= {body.signature.name, condition.signature.name}
        for node in nodes:
            for called in called_functions(node):
                # A function that is called from several places is still one function.
                if called.name in functions and called.name not in visited:
                    visited.add(called.name)
                    pending.append(functions[called.name].node_def)
    for body in copy.library.function:
        if body.signature.name in of_loops:
            _bypass_identities(body)
    _drop_unread_variables(copy, functions, calls, {node_name(tensor) + ":" + _index(tensor) for tensor in kept})
    return copy


def _constant_behind(tensor: str, by_name: dict[str, node_def_pb2.NodeDef]) -> node_def_pb2.NodeDef | None:
    """The Const that ``tensor`` comes from, through any number of Identity ops."""
    node = by_name.get(node_name(tensor))
    while node is not None and node.op == "Identity":
        node = by_name.get(node_name(node.input[0]))
    return node if node is not None and node.op == "Const" else None


def _note_shapes(loop: node_def_pb2.NodeDef, body: function_pb2.FunctionDef) -> None:
    """Tell the body what shapes its arguments have: the loop knows, and the pass looks at the body alone."""
    for number, shape in enumerate(loop.attr["output_shapes"].list.shape):
        if not shape.unknown_rank:
            noted = body.arg_attr[number].attr["_output_shapes"].list
            del noted.shape[:]
            noted.shape.add().CopyFrom(shape)


def _sink(by_name: dict[str, node_def_pb2.NodeDef], loop: node_def_pb2.NodeDef,
          body: function_pb2.FunctionDef) -> None:
    """Give ``body`` its own copy of every constant that the loop only hands round."""
    for number, (argument, returned) in enumerate(_variables(body)):
        constant = _constant_behind(loop.input[number], by_name)
        if constant is None or _origin(body, returned) != argument:
            continue
        sunk = body.node_def.add(name=f"{argument}/constant", op="Const")
        for key in ("dtype", "value"):
            sunk.attr[key].CopyFrom(constant.attr[key])
        for node in body.node_def:
            for position, source in enumerate(node.input):
                if source == argument:
                    node.input[position] = f"{sunk.name}:output:0"
        # The loop variable itself still goes round, unread, until it is dropped.
        body.ret[body.signature.output_arg[number].name] = argument


def _bypass_identities(body: function_pb2.FunctionDef) -> None:
    """Read constants directly: the Identity between has control edges that keep it, and them, out of segments."""
    while True:
        constants = {node.name for node in body.node_def if node.op == "Const"}
        detours = {node.name: node.input[0] for node in body.node_def
                   if node.op == "Identity" and len(node.input) == 1 and node_name(node.input[0]) in constants}
        if not detours:
            return
        kept = [node for node in body.node_def if node.name not in detours]
        for node in kept:
            inputs = [detours.get(node_name(source), source) if not source.startswith("^") else source
                      for source in node.input if not (source.startswith("^") and source[1:] in detours)]
            del node.input[:]
            node.input.extend(inputs)
        for key, source in list(body.ret.items()):
            body.ret[key] = detours.get(node_name(source), source)
        for key in [key for key, name in body.control_ret.items() if name in detours]:
            del body.control_ret[key]
            body.signature.control_output.remove(key)
        replace_field(body.node_def, kept)


def _drop_unread_variables(graph_def: graph_pb2.GraphDef, functions: dict[str, Any], calls: Counter[str],
                           kept: set[str]) -> None:
    for nodes, owner in scopes(graph_def):
        for loop in [node for node in nodes if node.op in LOOPS]:
            body, condition = functions[loop.attr["body"].func.name], functions[loop.attr["cond"].func.name]
            if calls[body.signature.name] != 1 or calls[condition.signature.name] != 1:
                continue
            read = _read_outputs(nodes, owner, loop.name, kept)
            unread = {number for number, (argument, returned) in enumerate(_variables(body))
                      if number not in read and returned == argument and not _reads(body, argument)
                      and not _reads(condition, condition.signature.input_arg[number].name)
                      and condition.signature.input_arg[number].name not in condition.ret.values()}
            if owner is None:
                # Outputs of the graph keep their names, so nothing before them may go.
                named = [int(_index(tensor)) for tensor in kept if node_name(tensor) == loop.name]
                unread = {number for number in unread if number > max(named, default=-1)}
            if unread and len(unread) < len(body.signature.input_arg):
                _drop(nodes, owner, loop, body, condition, unread)


def _drop(nodes: Any, owner: Any, loop: node_def_pb2.NodeDef, body: Any, condition: Any, unread: set[int]) -> None:
    """Take the loop variables ``unread`` (by number) out of the loop, its functions and its readers."""
    count = len(body.signature.input_arg)
    left = [number for number in range(count) if number not in unread]
    renumbered = {old: new for new, old in enumerate(left)}
    replace_field(loop.input, [*(loop.input[number] for number in left), *loop.input[count:]])
    replace_field(loop.attr["T"].list.type, [loop.attr["T"].list.type[number] for number in left])
    shapes = loop.attr["output_shapes"].list.shape
    if shapes:
        replace_field(shapes, [shapes[number] for number in left])
    forget_indices(loop)
    for number in unread:
        del body.ret[body.signature.output_arg[number].name]
    replace_field(body.signature.output_arg, [body.signature.output_arg[number] for number in left])
    for function in (body, condition):
        replace_field(function.signature.input_arg, [function.signature.input_arg[number] for number in left])
        for table in (function.arg_attr, function.resource_arg_unique_id):
            renumber(table, renumbered)

    move_readers(nodes, owner, loop.name, renumbered)


def forget_indices(loop: node_def_pb2.NodeDef) -> None:
    """Drop the lists of indices into the variables of ``loop``, once those are renumbered; the runtime makes them."""
    for key in [key for key in loop.attr if key.startswith(("_read_only", "_num_original", "_output_shapes"))]:
        del loop.attr[key]


def move_readers(nodes: Any, owner: Any, loop: str, renumbered: dict[int, int]) -> None:
    """Let whoever reads an output of ``loop`` read it by its new number."""
    for node in nodes:
        replace_field(node.input, [renumbered_output(source, loop, renumbered, owner is not None)
                                   for source in node.input])
    if owner is not None:
        for key, source in list(owner.ret.items()):
            owner.ret[key] = renumbered_output(source, loop, renumbered, True)


def renumbered_output(tensor: str, loop: str, renumbered: dict[int, int], in_function: bool) -> str:
    """How ``tensor`` is written once the outputs of ``loop`` have new numbers."""
    if tensor.startswith("^") or node_name(tensor) != loop:
        return tensor
    index = renumbered[int(_index(tensor))]
    return f"{loop}:output:{index}" if in_function else f"{loop}:{index}"


def renumber(table: Any, renumbered: dict[int, int]) -> None:
    """Move the entries of a protobuf map that is keyed by argument number."""
    copies = {}
    for key in list(table):
        value = table[key]
        if hasattr(value, "CopyFrom"):
            copy = type(value)()
            copy.CopyFrom(value)
            value = copy
        copies[key] = value
        del table[key]
    for old, value in copies.items():
        if old not in renumbered:
            continue
        if hasattr(value, "CopyFrom"):
            table[renumbered[old]].CopyFrom(value)
        else:
            table[renumbered[old]] = value


def _read_outputs(nodes: Any, owner: Any, loop: str, kept: set[str]) -> set[int]:
    sources = [source for node in nodes for source in node.input if not source.startswith("^")]
    sources += owner.ret.values() if owner is not None else kept
    return {int(_index(source)) for source in sources if node_name(source) == loop}


def _reads(function: Any, argument: str) -> bool:
    return any(source == argument for node in function.node_def for source in node.input)


def _variables(body: function_pb2.FunctionDef) -> list[tuple[str, str]]:
    """Loop variables in order: the argument, and what the body returns for it."""
    return [(argument.name, body.ret[result.name])
            for argument, result in zip(body.signature.input_arg, body.signature.output_arg, strict=True)]


def _origin(body: function_pb2.FunctionDef, tensor: str) -> str:
    """What ``tensor`` is a copy of, through any number of Identity ops."""
    by_name = {node.name: node for node in body.node_def}
    while (node := by_name.get(node_name(tensor))) is not None and node.op == "Identity":
        tensor = node.input[0]
    return tensor


def _index(tensor: str) -> str:
    _, colon, last = tensor.rpartition(":")
    return last if colon else "0"


def replace_field(field: Any, values: list[Any]) -> None:
    """Set a repeated protobuf field to ``values``, which may be its own elements."""
    copies: list[Any] = []
    for value in values:
        copies.append(type(value).FromString(value.SerializeToString()) if hasattr(value, "CopyFrom") else value)
    del field[:]
    field.extend(copies)
