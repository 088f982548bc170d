"""Look-up tables that a graph makes itself, as TensorFlow 1 exports do, as tables that TensorFlow 2 saves.

A TensorFlow 1 graph has a node for its table, and an initializer elsewhere fills what has the same name. A
signature that is rewritten and saved again leaves the initializer behind, so its table becomes one of the new
model: same content, captured like any other.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from trt_pipeline.errors import Unsupported, one_line

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

# Whatever is made into TensorFlow 2 tables here does not change after it was filled.
_STATIC = "HashTableV2"
_TABLES = frozenset({"HashTable", _STATIC, "MutableHashTable", "MutableHashTableV2", "MutableDenseHashTable",
                     "MutableDenseHashTableV2", "MutableHashTableOfTensors", "MutableHashTableOfTensorsV2"})
# Signatures that share a table share the one that is made of it.
_MADE: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()
_BEHIND = "_trt_pipeline_table"


def makes_tables(graph_def: graph_pb2.GraphDef) -> bool:
    """Whether ``graph_def`` makes a look-up table itself."""
    return any(node.op in _TABLES for node in graph_def.node)


def adopt(graph_def: graph_pb2.GraphDef) -> dict[str, Any]:
    """Replace the nodes of ``graph_def``, of a loaded SavedModel, that make tables by placeholders.

    Returns:
        Name of the placeholder -> the handle of a table of the same content. The table (`behind`) lives as long
        as the handle does.

    Raises:
        Unsupported: a table can change while it is served, or was not filled.
    """
    import tensorflow as tf

    handles: dict[str, Any] = {}
    for node in graph_def.node:
        if node.op not in _TABLES:
            continue
        if node.op != _STATIC:
            raise Unsupported(f"it makes its look-up table {node.name} itself, as TensorFlow 1 exports do, and as "
                              f"{node.op}, whose content a rewritten graph would not have")
        handles[node.name] = _handle(node)
        node.op = "Placeholder"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = tf.resource.as_datatype_enum
        node.attr["shape"].shape.SetInParent()
    return handles


def behind(handle: Any) -> Any:
    """The ``tf.lookup.StaticHashTable`` of a handle that `adopt` gave; None for any other."""
    return getattr(handle, _BEHIND, None)


def _handle(node: node_def_pb2.NodeDef) -> Any:
    import tensorflow as tf

    # A loader gives every table of every model that it loads a name of its own.
    key = bytes(node.attr["shared_name"].s)
    with _LOCK, tf.init_scope(), tf.device("CPU:0"):
        if (known := _MADE.get(key)) is not None:
            return known.resource_handle
        types = [tf.dtypes.as_dtype(node.attr[side].type) for side in ("key_dtype", "value_dtype")]
        loaded = tf.raw_ops.HashTableV2(container=node.attr["container"].s, shared_name=key, key_dtype=types[0],
                                        value_dtype=types[1])
        try:
            keys, values = tf.raw_ops.LookupTableExportV2(table_handle=loaded, Tkeys=types[0], Tvalues=types[1])
        except tf.errors.OpError as error:
            raise Unsupported(f"its look-up table {node.name} is not filled: {one_line(error)}") from error
        # Each look-up brings its own default.
        default = "" if types[1] == tf.string else tf.zeros([], types[1])
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)
        setattr(table.resource_handle, _BEHIND, table)
        _MADE[key] = table
        return table.resource_handle
