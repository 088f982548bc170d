"""Write rewritten signatures as ONE SavedModel that keeps the original's whole contract."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion import freeze, tables
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.model.nodes import every_node, node_name, with_functions_renamed

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

_WRITTEN = itertools.count()


def write(loaded: Any, rewritten: dict[str, SignatureGraph], original: Path, tags: tuple[str, ...],
          target: Path, engines: dict[str, Any] | None = None) -> None:
    """Save ``loaded`` with the signatures in ``rewritten`` replaced, and the others as they were.

    Names, order, dtypes, shapes, default values and method names of all signatures, the tables
    behind them, `assets` and `assets.extra` are those of ``original``.

    Args:
        loaded: ``original``, loaded with `tf.saved_model.load`.
        rewritten: signature name -> its new graph.
        original: folder of the original SavedModel.
        target: folder to write; must not exist.
        engines: resources to save along, by name: built TensorRT engines.

    Raises:
        RuntimeError: the written model's contract differs; the differences are named.
    """
    import tensorflow as tf

    contract = saved_model.read_contract(original, tags)
    module = tf.Module()
    signatures = {}
    # TensorFlow knows functions by name for as long as the process lives.
    written = next(_WRITTEN)
    again = f"w{written}" if written else ""
    for number, name in enumerate(contract.signatures):
        function = loaded.signatures[name]
        if name not in rewritten and tables.makes_tables(function.graph.as_graph_def()):
            # Its tables would be other ones than those of the signatures that were rewritten.
            rewritten = rewritten | {name: freeze.inline(function)}
        if name in rewritten:
            function = _to_function(function, rewritten[name], f"s{number}{again}_")
        signatures[name] = function
    if rewritten.keys() >= contract.signatures.keys():
        module.resources = _captured_resources(loaded, signatures.values())
    else:
        module.original = loaded
        module.adopted = _adopted(signatures.values())
    if engines:
        module.trt_engine_resources = engines
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(target), signatures=signatures, options=options)
    _restore_signature_defs(original, tags, target)
    if (original / "assets.extra").is_dir():
        shutil.copytree(original / "assets.extra", target / "assets.extra")
    broken = differences(contract, saved_model.read_contract(target, tags))
    if broken:
        raise RuntimeError("the written model breaks the contract: " + "; ".join(broken))


def write_functions(loaded: Any, graphs: dict[str, SignatureGraph], target: Path) -> None:
    """Save ``graphs`` as the signatures of a SavedModel of their own, with the tables of ``loaded`` that they use.

    Args:
        loaded: the SavedModel that the graphs are of, loaded with `tf.saved_model.load`.
        target: folder to write; must not exist.
    """
    import tensorflow as tf

    module = tf.Module()
    written = next(_WRITTEN)
    signatures = {name: _alone(graph, f"p{number}w{written}_") for number, (name, graph) in enumerate(graphs.items())}
    module.resources = _captured_resources(loaded, signatures.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(target), signatures=signatures, options=options)


def _alone(graph: SignatureGraph, prefix: str) -> tf.types.experimental.ConcreteFunction:
    """A graph as a function that takes what its placeholders are."""
    import tensorflow as tf
    from tensorflow.python.eager import wrap_function

    wrapped = wrap_function.function_from_graph_def(
        _ready_to_save(graph.graph_def, prefix), list(graph.inputs.values()), list(graph.outputs.values()),
        graph.resources)
    attributes = {node.name: node.attr for node in graph.graph_def.node if node.op == "Placeholder"}
    fed = {key: attributes[node_name(tensor)] for key, tensor in graph.inputs.items()}
    specs = [tf.TensorSpec(attribute["shape"].shape, tf.dtypes.as_dtype(attribute["dtype"].type), name=key)
             for key, attribute in fed.items()]

    def call(*inputs: Any) -> dict[str, Any]:
        return dict(zip(graph.outputs, wrapped(*inputs), strict=True))

    return tf.function(call, autograph=False).get_concrete_function(*specs)


def _to_function(function: Any, frozen: SignatureGraph, prefix: str) -> tf.types.experimental.ConcreteFunction:
    """The frozen graph as a function with the keywords and output names of ``function``."""
    import tensorflow as tf
    from tensorflow.python.eager import wrap_function

    captures = frozen.resources
    wrapped = wrap_function.function_from_graph_def(
        _ready_to_save(frozen.graph_def, prefix), list(frozen.inputs.values()),
        list(frozen.outputs.values()), captures)
    shapes = {key: spec.shape for key, spec in function.structured_outputs.items()}

    def call(*inputs: Any) -> dict[str, Any]:
        values = wrapped(*inputs)
        # Grappler drops static shapes that it cannot infer again (table look-ups become unknown).
        return {key: tf.ensure_shape(value, shapes[key])
                for key, value in zip(frozen.outputs, values, strict=True)}

    # By position: a name need not be one that Python allows.
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, name=key)
             for key, tensor in zip(frozen.inputs, function.inputs, strict=False)]
    return tf.function(call, autograph=False).get_concrete_function(*specs)


def _ready_to_save(graph_def: graph_pb2.GraphDef, prefix: str) -> graph_pb2.GraphDef:
    """A copy whose library functions have names of their own (the process knows the old ones) and lowered loops."""
    copy = with_functions_renamed(graph_def, prefix)
    for node in every_node(copy):
        if "_lower_using_switch_merge" in node.attr:
            # Freezing kept loops as functions; lowered, the runtime runs their steps in parallel.
            node.attr["_lower_using_switch_merge"].b = True
    return copy


def _captured_resources(loaded: Any, functions: Any) -> list[Any]:
    """The tables and variables of ``loaded`` that ``functions`` use: kept so, they are saved with them."""
    import tensorflow as tf
    from tensorflow.python.checkpoint import graph_view
    from tensorflow.python.trackable import resource

    functions = list(functions)
    handles = {id(external) for function in functions for external in _captures(function)}

    def handle_of(node: Any) -> Any:
        if isinstance(node, resource.CapturableResource):
            return node.resource_handle
        return node.handle if isinstance(node, tf.Variable) else None

    known = [node for node in graph_view.ObjectGraphView(loaded).breadth_first_traversal()[0]
             if id(handle_of(node)) in handles]
    assets = list(getattr(loaded, "asset_paths", []))  # of TensorFlow 1 exports: nobody else holds them
    return [*known, *_adopted(functions), *assets]


def _adopted(functions: Any) -> list[Any]:
    """The tables that ``functions`` use and no loaded model holds."""
    found = {id(external): tables.behind(external) for function in functions for external in _captures(function)}
    return [table for table in found.values() if table is not None]


def _captures(function: Any) -> list[Any]:
    return [external for external, _ in function.graph.captures]


def _restore_signature_defs(original: Path, tags: tuple[str, ...], target: Path) -> None:
    """Give the saved signatures what `tf.saved_model.save` forgets: method names, defaults, shapes, tags."""
    from tensorflow.python.saved_model import fingerprinting_utils

    before = saved_model.read_meta_graph(original, tags)
    model = saved_model.parse(target)
    meta_graph = model.meta_graphs[0]
    del meta_graph.meta_info_def.tags[:]
    meta_graph.meta_info_def.tags.extend(before.meta_info_def.tags)
    for name, signature in before.signature_def.items():
        if name not in meta_graph.signature_def:
            continue
        written = meta_graph.signature_def[name]
        written.method_name = signature.method_name
        for key, value in signature.defaults.items():
            written.defaults[key].CopyFrom(value)
        for old, new in ((signature.inputs, written.inputs), (signature.outputs, written.outputs)):
            for key in old:
                new[key].tensor_shape.CopyFrom(old[key].tensor_shape)
    (target / "saved_model.pb").write_bytes(model.SerializeToString(deterministic=True))
    # The fingerprint covers saved_model.pb, which has just changed.
    fingerprinting_utils.write_fingerprint(str(target))
