"""Read a SavedModel from disk as data: nothing here loads, executes or trusts it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_pipeline import digest
from trt_pipeline.errors import ModelError
from trt_pipeline.model.contract import Contract, SignatureContract, TensorContract

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

# Keys of signature_def that are the loader's own business, not the model's contract.
_INTERNAL_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
_TABLE_OPS = ("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2", "MutableDenseHashTableV2",
              "MutableHashTableOfTensorsV2", "AnonymousHashTable", "AnonymousMutableHashTable")
# A default is a number or two; more would be a way to fill the memory of whoever inspects the model.
_LARGEST_DEFAULT = 2**16
# Engines that TF-TRT keeps as assets are how a model runs on one GPU, not what its clients rely on.
ENGINE_ASSET = "trt-serialized-engine."
_ENGINE_FILE = "_serialized_trt_resource_filename"
_CREATOR = "_create_resource"
_DT_RESOURCE = 20
_VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")


def check_folder(path: Path) -> Path:
    """The SavedModel folder ``path``, after the checks that need no TensorFlow.

    Raises:
        ModelError: there is no such folder, it is not a SavedModel, or variable files are missing.
    """
    if not path.exists():
        raise ModelError(f"no model at {path}: check the path, or make it first (see models/README.md)")
    if not path.is_dir():
        raise ModelError(f"{path} is not a SavedModel: it is a file; name the folder that holds saved_model.pb")
    if not (path / "saved_model.pb").is_file():
        versions = sorted((p.name for p in path.iterdir() if (p / "saved_model.pb").is_file()), key=_natural)
        hint = f"; its version {versions[-1]} is one: use {path / versions[-1]}" if versions else ""
        raise ModelError(f"{path} is not a SavedModel: it has no saved_model.pb{hint}")
    return path


def read_meta_graph(path: Path, tags: tuple[str, ...] = ("serve",)) -> meta_graph_pb2.MetaGraphDef:
    """The MetaGraphDef of the SavedModel at ``path`` that carries exactly ``tags``.

    Raises:
        ModelError: the folder is no SavedModel, its protobuf is damaged, it has no such tags, or
            its variables are missing.
    """
    check_folder(path)
    meta_graph = _with_tags(parse(path), path, tags)
    _check_variables(path, meta_graph)
    return meta_graph


def parse(path: Path) -> saved_model_pb2.SavedModel:
    """The parsed ``saved_model.pb`` below ``path``.

    Raises:
        ModelError: it is truncated, corrupt or holds no graph.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError:
        model.Clear()
    if not model.meta_graphs or not model.meta_graphs[0].graph_def.node:
        raise ModelError(f"{path / 'saved_model.pb'} is truncated or corrupt: it does not parse as a SavedModel; "
                         "export or copy the model again")
    return model


def read_contract(path: Path, tags: tuple[str, ...] = ("serve",)) -> Contract:
    """The contract of the SavedModel at ``path``.

    Raises:
        ModelError: as `read_meta_graph`; or it has no signature, or an asset's name leaves its folder.
    """
    return contract_of(path, read_meta_graph(path, tags))


def contract_of(path: Path, meta_graph: meta_graph_pb2.MetaGraphDef) -> Contract:
    """The contract of the SavedModel at ``path``, whose ``meta_graph`` is read already.

    Raises:
        ModelError: it has no signature, or an asset's name leaves its folder.
    """
    signatures = {key: value for key, value in meta_graph.signature_def.items() if key not in _INTERNAL_SIGNATURES}
    if not signatures:
        raise ModelError(f"{path} has no signatures: export it with tf.saved_model.save(..., signatures=...)")
    arguments = _argument_orders(meta_graph)
    order = [name for name in arguments if name in signatures]
    order += sorted(signatures.keys() - set(order))
    _check_assets(path, meta_graph)
    return Contract(
        tags=tuple(sorted(meta_graph.meta_info_def.tags)),
        signatures={name: _signature(name, signatures[name], arguments.get(name, [])) for name in order},
        assets={name: content for name, content in _digests(path / "assets").items()
                if not name.startswith(ENGINE_ASSET)},
        extra_assets=_digests(path / "assets.extra"),
        tables=_count_tables(meta_graph),
        variable_bytes=sum(shard.stat().st_size for shard in (path / "variables").glob("variables.data-*")),
        tensorflow_version=meta_graph.meta_info_def.tensorflow_version,
    )


def _natural(text: str) -> tuple[int, str]:
    return (int(text) if text.isascii() and text.isdecimal() else -1, text)


def _with_tags(model: saved_model_pb2.SavedModel, path: Path, tags: tuple[str, ...]) -> meta_graph_pb2.MetaGraphDef:
    for meta_graph in model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    known = "; ".join(",".join(sorted(m.meta_info_def.tags)) or "(none)" for m in model.meta_graphs)
    raise ModelError(f"{path} has no graph tagged {','.join(tags)}: it has {known}; set 'tags' to one of these")


def _check_variables(path: Path, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    if not any(node.op in _VARIABLE_OPS for node in meta_graph.graph_def.node):
        return
    if not (path / "variables" / "variables.index").is_file():
        raise ModelError(f"{path} lacks variables/variables.index: the model has variables; copy the whole folder")
    shards = sorted(p.name for p in (path / "variables").glob("variables.data-*-of-*"))
    expected = int(shards[0].rsplit("-", 1)[1]) if shards else 1
    if len(shards) != expected:
        raise ModelError(f"{path} has {len(shards)} of {expected} variables.data files: copy the whole folder")


def _check_assets(path: Path, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    for asset in meta_graph.asset_file_def:
        name = Path(asset.filename)
        if name.is_absolute() or ".." in name.parts:
            raise ModelError(f"{path}: the asset name {asset.filename!r} leaves the model's assets folder; refused")
        if not (path / "assets" / name).is_file():
            raise ModelError(f"{path} lacks the asset assets/{name}: copy the whole folder")


def _argument_orders(meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, list[str]]:
    """Signature name -> argument names, both in the exporter's order; empty for TF1 exports.

    ``signature_def`` is a protobuf map and keeps no order; the TF2 object graph does.
    """
    nodes = meta_graph.object_graph_def.nodes
    root = {child.local_name: child.node_id for child in nodes[0].children} if nodes else {}
    if "signatures" not in root:
        return {}
    return {child.local_name: list(nodes[child.node_id].bare_concrete_function.argument_keywords)
            for child in nodes[root["signatures"]].children}


def _signature(name: str, proto: meta_graph_pb2.SignatureDef, arguments: list[str]) -> SignatureContract:
    ordered = [a for a in arguments if a in proto.inputs] + sorted(set(proto.inputs) - set(arguments))
    return SignatureContract(
        name=name,
        method_name=proto.method_name,
        inputs={key: _tensor(proto.inputs[key], proto.defaults.get(key)) for key in ordered},
        outputs={key: _tensor(proto.outputs[key]) for key in sorted(proto.outputs)},
    )


def _tensor(info: meta_graph_pb2.TensorInfo, default: Any = None) -> TensorContract:
    import tensorflow as tf

    shape = None if info.tensor_shape.unknown_rank else tuple(
        None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorContract(
        dtype=tf.dtypes.as_dtype(info.dtype).name,
        shape=shape,
        default=None if default is None else _default(default),
    )


def _default(proto: Any) -> str:
    """A default value as JSON. Raises ModelError for one that is too large to be meant."""
    import tensorflow as tf

    if math.prod(dim.size for dim in proto.tensor_shape.dim) > _LARGEST_DEFAULT:
        raise ModelError(f"a signature declares a default value of more than {_LARGEST_DEFAULT} elements; refused")
    return json.dumps(tf.make_ndarray(proto).tolist(), default=lambda text: text.decode(errors="replace"))


def _digests(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    model = folder.parent.resolve()  # a link that leads out of the model is no part of it
    return {file.relative_to(folder).as_posix(): digest.of_file(file) for file in sorted(folder.rglob("*"))
            if file.is_file() and file.resolve().is_relative_to(model)}


def _count_tables(meta_graph: meta_graph_pb2.MetaGraphDef) -> int:
    """Look-up tables: resource objects of a TF2 export, table nodes of a TF1 one."""
    nodes = meta_graph.object_graph_def.nodes
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    resources = 0
    for node in nodes:
        children = {child.local_name: child.node_id for child in node.children}
        if node.WhichOneof("kind") != "resource" or _ENGINE_FILE in children:
            continue
        creators = nodes[children[_CREATOR]].function.concrete_functions if _CREATOR in children else ()
        made = [argument.type for name in creators if name in functions
                for argument in functions[name].signature.output_arg]
        # A TF1 export that was loaded and saved again keeps what initializes it as such an object: it makes a number.
        resources += not made or _DT_RESOURCE in made
    return resources or sum(node.op in _TABLE_OPS for node in meta_graph.graph_def.node)
