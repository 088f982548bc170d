"""Listen to tensors of a graph while it runs, those inside loops included.

A tap is a Python function that TensorFlow calls with a tensor's value each time it is computed. One
value is in memory at a time, whatever the number of samples.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.model.nodes import data_types, make_stateful, with_functions_renamed
from trt_pipeline.model.scoped import Scope, scopes_of

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

Array = npt.NDArray[Any]
Listener = Callable[[Array], None]
Feeds = Mapping[str, Array]
_DT_FLOAT = 1
# What loops and branches return is a tensor of their bodies.
_CALLS = frozenset({"While", "StatelessWhile", "If", "StatelessIf"})
_LARGE_BYTES = 2**14
_NUMBERS = itertools.count()


class Tapped:
    """A signature's graph with taps in it, ready to be called from several threads at once.

    Float32 tensors only. The taps live as long as this object.
    """

    def __init__(self, graph: SignatureGraph, listeners: Mapping[str, Listener]) -> None:
        """
        Args:
            graph: a canonical graph (`conversion.canonical`).
            listeners: scoped tensor name -> what is called with each value (do not keep or change it).

        Raises:
            KeyError: the graph has no such tensor.
        """
        from tensorflow.python.eager import wrap_function

        # TensorFlow holds its Python functions by weak references.
        self._taps: list[Any] = []
        graph_def = with_functions_renamed(graph.graph_def, f"tapped_{next(_NUMBERS)}_")
        passed = self._insert(graph_def, listeners)
        if missing := listeners.keys() - passed.keys():
            raise KeyError(f"the graph has no float32 tensor {min(missing)}")
        self._inputs, self._outputs = list(graph.inputs), list(graph.outputs)
        captures = graph.resources | _take_weights(graph_def)
        # A tensor that is fetched is fetched after its tap.
        self._function = wrap_function.function_from_graph_def(
            graph_def, list(graph.inputs.values()),
            [f"{passed[name]}:0" if name in passed else name for name in graph.output_tensors], captures)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """The outputs by name, for inputs by name."""
        import tensorflow as tf

        values = self._function(*(tf.constant(feeds[name]) for name in self._inputs))
        return {name: value.numpy() for name, value in zip(self._outputs, values, strict=True)}

    def _insert(self, graph_def: graph_pb2.GraphDef, listeners: Mapping[str, Listener]) -> dict[str, str]:
        """Put the taps in; scoped tensor name -> the node that hands it on."""
        passed: dict[str, str] = {}
        for scope, written, name in float_tensors(graph_def, results=True):
            if name not in listeners:
                continue
            readers = list(scope.nodes)
            heard = scope.add("PyFunc", f"tapped/{len(passed)}/heard", [written])
            self._listen(heard, listeners[name])
            handed = scope.add("Identity", f"tapped/{len(passed)}", [written, f"^{heard.name}"], T=_DT_FLOAT)
            scope.redirect(written, scope.written(handed.name), readers)
            passed[name] = handed.name
        make_stateful(graph_def)
        return passed

    def _listen(self, node: node_def_pb2.NodeDef, listener: Listener) -> None:
        """Make ``node`` a call of ``listener``, one at a time."""
        from tensorflow.python.ops import script_ops

        lock = threading.Lock()

        def listen(value: Array) -> list[Array]:
            with lock:
                listener(value)
            return []

        self._taps.append(listen)
        node.attr["token"].s = script_ops._py_funcs.insert(listen).encode()
        node.attr["Tin"].list.type.append(_DT_FLOAT)
        node.attr["Tout"].list.SetInParent()


def float_tensors(graph_def: graph_pb2.GraphDef, results: bool = False) -> Iterator[tuple[Scope, str, str]]:
    """Every float32 tensor that is fed to or computed in a graph, constants left out.

    Args:
        results: what loops and branches return, too: the same values under another name, but the only
            one that the readers outside know.

    Yields:
        Its scope, how nodes of that scope write it, and its scoped name. Arguments of bodies are tensors too.
    """
    for scope in scopes_of(graph_def):
        for argument in scope.function.signature.input_arg if scope.function else ():
            if argument.type == _DT_FLOAT:
                yield scope, argument.name, scope.tensor(argument.name)
        for node in list(scope.nodes):
            if node.op == "Const" or (node.op in _CALLS and not results):
                continue
            for index, kind in enumerate(data_types(node, "output_arg")):
                if kind == _DT_FLOAT:
                    written = scope.written(node.name, index)
                    yield scope, written, scope.tensor(written)


def _take_weights(graph_def: graph_pb2.GraphDef) -> dict[str, Any]:
    """Take large constants out of the graph, to be fed as captures: placeholder name -> tensor.

    TensorFlow copies a function's graph several times before its first run (ResNet50, of 0.1 GB: 2.5 GB).
    """
    import tensorflow as tf
    from tensorflow.python.framework import tensor_util

    taken: dict[str, Any] = {}
    for node in graph_def.node:
        if (node.op != "Const" or node.attr["dtype"].type != _DT_FLOAT or any(s.startswith("^") for s in node.input)
                or node.attr["value"].ByteSize() < _LARGE_BYTES):
            continue
        value = tensor_util.MakeNdarray(node.attr["value"].tensor)
        taken[node.name] = tf.constant(value)
        node.op = "Placeholder"
        del node.attr["value"]
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    return taken
