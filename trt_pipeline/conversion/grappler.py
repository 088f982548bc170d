"""Run Grappler, TensorFlow's graph optimizer, offline on a frozen graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_pipeline.errors import Unsupported
from trt_pipeline.model.nodes import every_node

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2
    from tensorflow.core.protobuf import config_pb2

# Passes whose result is plain TensorFlow ops. Fusion into `_Fused*` ops is left to the runtime,
# which does it for the machine that it is on. 'layout' is the runtime's too: it depends on a GPU.
# 'debug_stripper' is left out: it removes the checks by which a model refuses bad input.
_PORTABLE_PASSES = ("function", "pruning", "constfold", "arithmetic", "dependency",
                    "common_subgraph_elimination")


def optimize(graph_def: graph_pb2.GraphDef, inputs: list[str], outputs: list[str]) -> graph_pb2.GraphDef:
    """Fold, prune and simplify; ``inputs`` and ``outputs`` (tensor names) are kept."""
    return _run(graph_def, inputs, outputs, _PORTABLE_PASSES)


def to_bfloat16(graph_def: graph_pb2.GraphDef, inputs: list[str], outputs: list[str]) -> graph_pb2.GraphDef:
    """Cast to bfloat16 around the ops for which oneDNN has bfloat16 kernels.

    The pass crashes the process on graphs that were not simplified first: give it the result of
    `optimize`.

    Raises:
        Unsupported: nothing was cast.
    """
    result = _run(graph_def, inputs, outputs, (), bfloat16=True)
    if not casts_to_bfloat16(result):
        raise Unsupported("no operation could be cast to bfloat16")
    return result


def casts_to_bfloat16(graph_def: graph_pb2.GraphDef) -> int:
    """Number of casts into bfloat16, loop bodies included."""
    from tensorflow.core.framework import types_pb2

    return sum(n.op == "Cast" and n.attr["DstT"].type == types_pb2.DT_BFLOAT16 for n in every_node(graph_def))


def run(graph_def: graph_pb2.GraphDef, inputs: list[str], outputs: list[str],
        config: config_pb2.ConfigProto) -> graph_pb2.GraphDef:
    """Run the passes that ``config`` names; an optimizer that fails only logs, and the graph stays as it was."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training import saver

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        meta_graph = saver.export_meta_graph(graph_def=graph_def, graph=graph)
    # What Grappler must not touch: the names listed under the train_op collection.
    meta_graph.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])
    # The TensorRT pass crashes the process under any other graph_id.
    return tf_optimizer.OptimizeGraph(config, meta_graph, graph_id=b"tf_graph")


def _run(graph_def: graph_pb2.GraphDef, inputs: list[str], outputs: list[str], passes: tuple[str, ...],
         bfloat16: bool = False) -> graph_pb2.GraphDef:
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    rewrite.fail_on_optimizer_errors = False
    if bfloat16:
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
        rewrite.optimizers.append("auto_mixed_precision_onednn_bfloat16")
    rewrite.optimizers.extend(passes)
    return run(graph_def, inputs, outputs, config)
