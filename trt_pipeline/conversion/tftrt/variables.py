"""Tell the TensorRT pass the shapes of variables that were not frozen; it refuses reads of unknown shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.model.nodes import called_functions, node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2

    from trt_pipeline.conversion.freeze import SignatureGraph

# Position of the first input that is handed to the functions of each kind of call.
_CALLS = {"While": 0, "StatelessWhile": 0, "If": 1, "StatelessIf": 1, "Case": 1, "StatelessCase": 1,
          "PartitionedCall": 0, "StatefulPartitionedCall": 0}
_READS = ("ReadVariableOp", "ResourceGather")
_CONTAINER = b"trt_pipeline"
# A gather's own handle: TensorRT does not take the gather, and its result has a shape only behind a VarHandleOp.
_GATHERED = "/gathered"
_FILTERED = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"})


def declare(signature: SignatureGraph) -> None:
    """Make the shapes of captured variables known all over the graph of ``signature``, in place.

    Placeholders of handles become VarHandleOps, which say what shape a read has (`restore` turns them
    back), arguments of bodies get handle shapes, and reads get the attribute ``_shape``.
    """
    from tensorflow.python.ops import resource_variable_ops

    variables = {}
    for name, handle in signature.resources.items():
        known = resource_variable_ops.get_eager_safe_handle_data(handle)
        if known is not None and known.is_set and known.shape_and_type:
            variables[name] = known.shape_and_type[0]
    for node in signature.graph_def.node:
        if node.name in variables:
            node.attr.clear()
            node.op = "VarHandleOp"
            node.attr["dtype"].type = variables[node.name].dtype
            node.attr["shape"].shape.CopyFrom(variables[node.name].shape)
            node.attr["shared_name"].s = node.name.encode()
            node.attr["container"].s = _CONTAINER
    functions = {f.signature.name: f for f in signature.graph_def.library.function}
    _note(signature.graph_def.node, variables, functions)


def offer(graph_def: graph_pb2.GraphDef) -> None:
    """Turn the VarHandleOps that `declare` made into placeholders, in place: only their reads enter an engine.

    The pass knows a handle by its attribute ``dtype`` being a resource (`ConvertToTensorOrWeights`), which
    that of a VarHandleOp never is. Read outside, a weight would come in as a tensor, and no convolution
    can be built from such a filter.
    """
    handles = {node.name: node for node in graph_def.node if _is_ours(node)}
    gathered = set()
    for node in graph_def.node:
        if node.op == "ResourceGather" and (name := node_name(node.input[0])) in handles:
            gathered.add(name)
            node.input[0] = name + _GATHERED
    for name in sorted(gathered):
        graph_def.node.add().CopyFrom(handles[name])
        graph_def.node[-1].name = name + _GATHERED
    for node in handles.values():
        _become_placeholder(node)


def restore(graph_def: graph_pb2.GraphDef) -> None:
    """Undo `declare` and `offer`, in place."""
    for node in graph_def.node:
        if node.op == "ResourceGather":
            node.input[0] = node.input[0].removesuffix(_GATHERED)
    for node in [node for node in graph_def.node if _is_ours(node)]:
        if node.name.endswith(_GATHERED):
            graph_def.node.remove(node)
        else:
            _become_placeholder(node)


def _is_ours(node: Any) -> bool:
    return bool(node.op == "VarHandleOp" and node.attr["container"].s == _CONTAINER)


def _become_placeholder(node: Any) -> None:
    from tensorflow.core.framework import types_pb2

    node.attr.clear()
    node.op = "Placeholder"
    node.attr["dtype"].type = types_pb2.DT_RESOURCE
    node.attr["shape"].shape.SetInParent()


def _note(nodes: Any, variables: dict[str, Any], functions: dict[str, Any], in_body: bool = False) -> None:
    """Follow the handles in ``variables`` through one graph or body and into the functions that it calls."""
    by_name = {node.name: node for node in nodes}
    # In a body the pass takes no handle, weights come in as tensors, and filters must not.
    refused = {node_name(node.input[1]) for node in nodes if node.op in _FILTERED} if in_body else set()

    def variable_of(tensor: str) -> Any:
        name = node_name(tensor)
        while name not in variables and name in by_name and by_name[name].op == "Identity":
            name = node_name(by_name[name].input[0])
        return variables.get(name)

    for node in nodes:
        if node.op in _READS and node.name not in refused and (variable := variable_of(node.input[0])) is not None:
            node.attr["_shape"].shape.CopyFrom(variable.shape)
        if node.op not in _CALLS:
            continue
        given = [variable_of(tensor) for tensor in node.input if not tensor.startswith("^")][_CALLS[node.op]:]
        for called in called_functions(node):
            if called.name in functions:
                _note_in_body(functions[called.name], given, functions)


def _note_in_body(function: Any, given: list[Any], functions: dict[str, Any]) -> None:
    from tensorflow.core.framework import types_pb2

    handed = {}
    for number, (argument, variable) in enumerate(zip(function.signature.input_arg, given, strict=False)):
        if variable is not None and argument.type == types_pb2.DT_RESOURCE:
            handed[argument.name] = variable
            attributes = function.arg_attr[number].attr
            attributes["_handle_dtypes"].list.type[:] = [variable.dtype]
            del attributes["_handle_shapes"].list.shape[:]
            attributes["_handle_shapes"].list.shape.add().CopyFrom(variable.shape)
    _note(function.node_def, handed, functions, in_body=True)
