"""Build the engines of a converted SavedModel on the GPU that will serve it, and save them with it.

TF-TRT makes an engine for the shapes that it has seen. Left to itself it takes those of the first request,
and every other shape then runs natively for as long as the process lives. So here it is first shown all
shapes that serving will see (profile generation mode), then builds one engine for the whole range, and the
saved model may not build any more.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.conversion import rebuild
from trt_pipeline.conversion.tftrt.segment import engines
from trt_pipeline.errors import SamplesError
from trt_pipeline.frozen import Frozen
from trt_pipeline.model import saved_model

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

Feeds = dict[str, npt.NDArray[Any]]
Request = tuple[str, Feeds]
"""A signature and one batch of its inputs by name."""
_DEVICE = "GPU"


class Built(Frozen):
    """What a build made."""

    engines: int
    unreached: tuple[str, ...]
    """Engines that no request ever came to, and that so were not built."""


def build(model: Path, tags: tuple[str, ...], requests: Sequence[Request], calibration: Iterable[Request],
          target: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Built:
    """Write ``model`` with its engines built to the new folder ``target``.

    Args:
        requests: what serving will see, in every shape. The largest goes first when engines are built,
            for TensorRT tunes an engine to what it sees then.
        calibration: what TensorRT's calibrator is shown, where the engines were made for it.

    Raises:
        RuntimeError: TensorRT could not build an engine; the log says why.
        SamplesError: the engines need calibration samples and there are none.
    """
    import tensorflow as tf

    largest_first = sorted(requests, key=lambda request: -_elements(request[1]))
    converted = engines(saved_model.read_meta_graph(model, tags).graph_def)
    names = sorted({node.name for node in converted})
    calibrating = any(map(_calibrates, converted))
    if not any(node.attr["precision_mode"].s in (b"FP16", b"INT8") for node in converted):
        _turn_off_tf32()
    total = 2 * len(largest_first)
    with tempfile.TemporaryDirectory(prefix="trt-pipeline-") as scratch:
        profiling = tf.saved_model.load(str(_changed(model, Path(scratch, "profiling"), _profile)), tags=list(tags))
        _run(profiling, largest_first, lambda done: progress(done, total))
        building = tf.saved_model.load(str(model), tags=list(tags))
        tables = {}
        if calibrating:
            if not _run(building, calibration):
                raise SamplesError("the engines are to be calibrated by TensorRT, and there are no calibration samples")
            tables = {name: table for name in names if (table := _calibration_table(name)) is not None}
        _run(building, largest_first, lambda done: progress(len(largest_first) + done, total))
        files = {name: file for name in names if (file := _serialize(name, Path(scratch))) is not None}
        final = _changed(model, Path(scratch, "final"), lambda node: _finish(node, tables))
        resources = {name: _resource(name, file) for name, file in files.items()}
        rebuild.write(tf.saved_model.load(str(final), tags=list(tags)), {}, model, tags, target, resources)
    return Built(engines=len(files), unreached=tuple(name for name in names if name not in files))


def _turn_off_tf32() -> None:
    """Engines at FP32 are to compute in float32: where a GPU has TF32, TensorRT would take its 10-bit products."""
    import tensorflow as tf

    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    tf.config.experimental.enable_tensor_float_32_execution(False)


def _calibrates(node: node_def_pb2.NodeDef) -> bool:
    """Whether an engine waits for TensorRT's calibrator; a SavedModel leaves out what is as by default, here true."""
    waits = "use_calibration" not in node.attr or node.attr["use_calibration"].b
    return node.attr["precision_mode"].s == b"INT8" and waits


def _elements(feeds: Feeds) -> int:
    return sum(int(np.prod(value.shape)) for value in feeds.values())


def _run(loaded: Any, requests: Iterable[Request], progress: Callable[[int], None] = lambda done: None) -> int:
    """Answer ``requests``; returns how many there were."""
    import tensorflow as tf

    number = -1
    for number, (signature, feeds) in enumerate(requests):
        loaded.signatures[signature](**{name: tf.constant(value) for name, value in feeds.items()})
        progress(number + 1)
    return number + 1


def _changed(model: Path, target: Path, change: Callable[[node_def_pb2.NodeDef], None]) -> Path:
    """A copy of ``model`` in ``target`` with ``change`` made to every engine; weights and assets are linked."""
    parsed = saved_model.parse(model)
    for meta_graph in parsed.meta_graphs:
        graph_def: graph_pb2.GraphDef = meta_graph.graph_def
        for node in engines(graph_def):
            change(node)
    target.mkdir()
    (target / "saved_model.pb").write_bytes(parsed.SerializeToString())
    for entry in model.iterdir():
        if entry.is_dir():
            (target / entry.name).symlink_to(entry.resolve(), target_is_directory=True)
    return target


def _profile(node: node_def_pb2.NodeDef) -> None:
    node.attr["_profile_generation_mode"].b = True


def _finish(node: node_def_pb2.NodeDef, tables: dict[str, bytes]) -> None:
    node.attr["_allow_build_at_runtime"].b = False
    if node.name in tables:
        node.attr["calibration_data"].s = tables[node.name]


def _calibration_table(name: str) -> bytes | None:
    """What TensorRT's calibrator found for an engine; None where it was never fed."""
    import tensorflow as tf
    from tensorflow.compiler.tf2tensorrt.ops import gen_trt_ops

    try:
        with tf.device(_DEVICE):
            table: bytes = gen_trt_ops.get_calibration_data_op(name).numpy()
    except (tf.errors.NotFoundError, tf.errors.UnknownError):
        return None
    return table


def _serialize(name: str, folder: Path) -> Path | None:
    """Write the engine called ``name`` to a file; None where nothing ever asked for it.

    Raises:
        RuntimeError: it was asked for, and could not be built.
    """
    import tensorflow as tf
    from tensorflow.compiler.tf2tensorrt.ops import gen_trt_ops

    file = folder / f"{saved_model.ENGINE_ASSET}{name}"
    try:
        with tf.device(_DEVICE):
            gen_trt_ops.serialize_trt_resource(resource_name=name, filename=str(file), delete_resource=True)
    except tf.errors.NotFoundError:
        return None
    if not any(True for _ in tf.data.TFRecordDataset(str(file))):
        raise RuntimeError(f"TensorRT could not build {name}: the log has its reason")
    return file


def _resource(name: str, file: Path) -> Any:
    from tensorflow.python.compiler.tensorrt import trt_convert

    return trt_convert._TRTEngineResource(name, str(file), maximum_cached_engines=1, device=_DEVICE)
