"""One signature as a graph of its own: frozen (variables become constants, in bodies too) or with its variables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion import tables
from trt_pipeline.conversion.weights import Weights, gather_from_constants, take_variables
from trt_pipeline.errors import Unsupported, one_line
from trt_pipeline.model.nodes import every_node

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

# A GraphDef is one protobuf message, and those end at 2 GiB; the rest is for the graph itself.
LARGEST_FROZEN_BYTES = 2**31 - 2**26
CONTROL_FLOW = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"})


@dataclass(frozen=True)
class SignatureGraph:
    """A signature as a graph of its own.

    ``inputs`` and ``outputs`` map the signature's names to tensor names of ``graph_def``.
    ``resources`` maps placeholder node names of ``graph_def`` to the handles that the original
    function had captured there: tables, and the variables that were not frozen.
    ``weights`` are values of placeholders, by node name: variables too large for ``graph_def``.
    """

    graph_def: graph_pb2.GraphDef
    inputs: dict[str, str]
    outputs: dict[str, str]
    resources: dict[str, Any]
    weights: Weights = field(default_factory=dict)

    @property
    def input_tensors(self) -> list[str]:
        """What is fed, captured handles and large weights included."""
        return [*self.inputs.values(), *(f"{name}:0" for name in (*self.resources, *self.weights))]

    @property
    def output_tensors(self) -> list[str]:
        """What is fetched."""
        return list(self.outputs.values())


def freeze(function: tf.types.experimental.ConcreteFunction) -> SignatureGraph:
    """Freeze a signature of a loaded SavedModel.

    TensorFlow's own `convert_variables_to_constants_v2` rebuilds a function from the frozen graph
    to return it; that takes ten times the time and twice the memory of the graph (BERT-base: 24 s
    and 5.0 GB against 2.7 s and 1.8 GB), and fails where a loop body gathers from a variable. Its
    inner step, used here, does neither.

    Raises:
        Unsupported: the variables exceed 2 GiB, or TensorFlow cannot freeze the graph.
    """
    from tensorflow.python.framework import convert_to_constants

    if fits_no_graph(function):
        raise Unsupported(f"its variables hold {_gib(function)}, and a frozen graph ends at 2 GiB")
    _refuse_assignments(function)
    _forget_initializers(function)
    try:
        data = convert_to_constants._FunctionConverterDataInEager(
            func=function, lower_control_flow=False, aggressive_inlining=True)
        graph_def, _ = convert_to_constants._replace_variables_by_constants(converter_data=data)
    except (ValueError, RuntimeError, KeyError) as error:
        raise Unsupported(f"TensorFlow cannot freeze it: {one_line(error)}") from error
    for body in graph_def.library.function:  # freezing skips them inside bodies (TensorFlow issue 51488)
        gather_from_constants(body.node_def, ":output:0")
    return _of_function(graph_def, function)


def for_export(function: tf.types.experimental.ConcreteFunction) -> SignatureGraph:
    """A signature of a loaded SavedModel frozen, or, where that is too large, with its variables beside the graph.

    Raises:
        Unsupported: neither can be done.
    """
    return beside(function) if fits_no_graph(function) else freeze(function)


def fits_no_graph(function: tf.types.experimental.ConcreteFunction) -> bool:
    """Whether the variables of a signature exceed what one graph can hold."""
    return _bytes(function) > LARGEST_FROZEN_BYTES


def beside(function: tf.types.experimental.ConcreteFunction) -> SignatureGraph:
    """A signature of a loaded SavedModel with its variables as `SignatureGraph.weights` beside the graph.

    They share the loaded model's own memory.

    Raises:
        Unsupported: the signature has loops or branches, whose bodies would need the weights inside, or
            does more with a variable than read it.
    """
    inlined = inline(function)
    if any(node.op in CONTROL_FLOW for node in every_node(inlined.graph_def)):
        raise Unsupported(f"its variables hold {_gib(function)}, and over 2 GiB a signature with loops or branches "
                          "cannot be converted; halve its weights, or split the model")
    weights = take_variables(inlined.graph_def, inlined.resources)
    others = {name: handle for name, handle in inlined.resources.items() if name not in weights}
    return replace(inlined, resources=others, weights=weights)


def _bytes(function: Any) -> int:
    return sum(v.shape.num_elements() * v.dtype.size for v in function.graph.variables)


def _gib(function: Any) -> str:
    return f"{_bytes(function) / 2**30:.1f} GiB"


def inline(function: tf.types.experimental.ConcreteFunction) -> SignatureGraph:
    """A signature of a loaded SavedModel with its calls inlined and its variables left as they are.

    Raises:
        Unsupported: TensorFlow cannot inline the graph.
    """
    from tensorflow.python.framework import convert_to_constants

    _refuse_assignments(function)
    _forget_initializers(function)
    try:
        graph_def = convert_to_constants._run_inline_graph_optimization(
            function, lower_control_flow=False, aggressive_inlining=True)
    except (ValueError, RuntimeError) as error:
        raise Unsupported(f"TensorFlow cannot inline it: {one_line(error)}") from error
    return _of_function(graph_def, function)


def _of_function(graph_def: graph_pb2.GraphDef, function: Any) -> SignatureGraph:
    """``graph_def``, made from ``function``, with the names that the signature gives its tensors."""
    for node in every_node(graph_def):
        node.device = ""
    # Loops stay functions here ('_lower_using_switch_merge' is False): tf2onnx knows them in that form.
    own_tables = tables.adopt(graph_def)
    left = {node.name for node in graph_def.node if node.op == "Placeholder"}  # what was not frozen
    captured = {internal.op.name: external for external, internal in function.graph.captures
                if internal.op.name in left}
    # A loaded signature's first inputs are its keywords, in this order, whatever their tensors are called.
    inputs = {key: tensor.name for key, tensor in zip(function._arg_keywords, function.inputs, strict=False)}
    # A function's flat outputs stand in the order of their sorted names.
    outputs = {key: tensor.name
               for key, tensor in zip(sorted(function.structured_outputs), function.outputs, strict=True)}
    return SignatureGraph(graph_def, inputs, outputs, captured | own_tables)


def _refuse_assignments(function: Any) -> None:
    """Frozen or rewritten, a signature that writes to variables would no longer do so."""
    if changing := _assignments(function):
        raise Unsupported(f"it changes variables when it is called ({changing})")


def _forget_initializers(function: Any) -> None:
    """Drop the names of operations that set up tables: TF1 exports have them, their signatures' graphs do not,
    and TensorFlow refuses a graph that names what it lacks (Estimators with string labels)."""
    for collection in ("table_initializer", "saved_model_main_op", "legacy_init_op"):
        function.graph.clear_collection(collection)


def _assignments(function: tf.types.experimental.ConcreteFunction) -> str:
    """Operations of ``function`` that write to variables, by type; empty where there are none."""
    nodes = every_node(function.graph.as_graph_def())
    kinds = {n.op for n in nodes if n.op.startswith(("Assign", "ResourceScatter", "ResourceApply"))}
    return ", ".join(sorted(kinds))

