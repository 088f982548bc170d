"""Tell people what of a split signature stays on the host, and what a client of the core alone has to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from trt_pipeline.conversion.split.split import HostOperation, Split
from trt_pipeline.model.contract import TensorContract
from trt_pipeline.model.nodes import node_name
from trt_pipeline.model.operations import STRUCTURAL_OPS


def on_the_host(split: Split) -> list[str]:
    """A line for each operation that has to stay in TensorFlow: where, what, its node, and why."""
    return [f"{one.side}: {one.op} ({one.node}): {one.why}" for one in split.host
            if one.why and one.op not in STRUCTURAL_OPS]


def for_clients(split: Split, loaded: Any = None) -> list[str]:
    """What whoever calls the core itself, in Triton, has to do: a line for each edge, in the order of work.

    Args:
        loaded: the SavedModel that was split; with it, the files of tables are named.
    """
    files = asset_files(loaded, split) if loaded is not None else {}
    lines = []
    for name in split.before.outputs if split.before is not None else ():
        steps = [one for one in split.host if name in one.feeds]
        of_core = split.contract.inputs.get(name)
        result = f"core input `{name}` {_described(of_core)}" if of_core is not None else f"`{name}`"
        lines.append(f"{_quoted(_read(split, steps))} -> {_steps(steps, files)} -> {result}")
    if split.after is not None:
        steps = [one for one in split.host if one.side == "after"]
        taken = [f"core output `{name}` {_described(split.contract.outputs[name])}" if name in split.contract.outputs
                 else f"`{name}`" for name in split.after.inputs]
        lines.append(f"{', '.join(taken)} -> {_steps(steps, files)} -> {_quoted(split.after.outputs)}")
    return lines


def asset_files(loaded: Any, split: Split) -> dict[str, str]:
    """Node of a look-up -> the file, below the SavedModel, that its table is read from."""
    from tensorflow.python.checkpoint import graph_view
    from tensorflow.python.trackable import resource

    wanted = {id(handle): name for part in (split.before, split.after) if part is not None
              for name, handle in part.resources.items()}
    file_of: dict[str, str] = {}
    for node in graph_view.ObjectGraphView(loaded).breadth_first_traversal()[0]:
        if isinstance(node, resource.CapturableResource) and id(node.resource_handle) in wanted:
            file_of[wanted[id(node.resource_handle)]] = _asset(node)
    found = {}
    for part in (split.before, split.after):
        for node in part.graph_def.node if part is not None else ():
            for source in node.input:
                if file_of.get(node_name(source)):
                    found[node.name] = file_of[node_name(source)]
    return found


def _asset(table: Any) -> str:
    """The file, below its SavedModel, that the loaded ``table`` is filled from; empty where there is none."""
    import tensorflow as tf

    initialize = getattr(table, "_initialize", None)
    for function in getattr(initialize, "concrete_functions", ()):
        for captured in function.captured_inputs:
            if captured.dtype == tf.string and not captured.shape.rank:
                return f"assets/{PurePath(captured.numpy().decode(errors='replace')).name}"
    return ""


def _read(split: Split, steps: Iterable[HostOperation]) -> list[str]:
    """The signature's inputs that ``steps`` begin with."""
    if split.before is None:
        return []
    nodes = {one.node for one in steps}
    sources = {node_name(source) for node in split.before.graph_def.node if node.name in nodes
               for source in node.input}
    return [name for name, tensor in split.before.inputs.items() if node_name(tensor) in sources]


def _steps(steps: Iterable[HostOperation], files: dict[str, str]) -> str:
    """``steps`` in their order, each kind once."""
    told = dict.fromkeys(f"{one.op} ({files[one.node]})" if one.node in files else one.op for one in steps
                         if one.op not in STRUCTURAL_OPS)
    return ", ".join(told) or "as it is"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _described(tensor: TensorContract) -> str:
    dims = "?" if tensor.shape is None else ", ".join("-1" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.dtype} [{dims}]"
