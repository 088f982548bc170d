"""A model over 2 GiB goes to ONNX with its weights beside it, in bounded memory; smaller ones show the same way."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from tests.conftest import ROOT
from tests.conversion.onnx_precision import nets
from trt_pipeline.backends import backend
from trt_pipeline.backends.base import ConversionRequest
from trt_pipeline.conversion import freeze
from trt_pipeline.conversion.onnx_tensorrt.convert import convert
from trt_pipeline.conversion.weights import take_variables
from trt_pipeline.engine.recipe import MODEL, ROUNDED
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model

IDS = np.array([[1, 2, 3], [99, 399, 0]])


class Wide(tf.Module):
    """ids (N, L) -> y (N, width), shape (2): the mean of rows of a table, products, and all ways to read them."""

    def __init__(self, rows: int, width: int, hidden: int) -> None:
        super().__init__()
        self.table = tf.Variable(tf.zeros([rows, width]))
        self.table[:100].assign(tf.random.stateless_normal([min(100, rows), width], [1, 2]))
        self.up = tf.Variable(tf.random.stateless_normal([width, hidden], [3, 4], stddev=width**-0.5))
        self.down = tf.Variable(tf.random.stateless_normal([hidden, width], [5, 6], stddev=hidden**-0.5))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, "ids")])
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.reduce_mean(tf.gather(self.table, ids), 1)
        y = tf.matmul(tf.nn.relu(tf.matmul(x, self.up)), self.down)
        return {"y": y + self.table[0] + tf.gather_nd(self.table, [[1]]), "shape": tf.shape(self.table)}


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a graph ended at 100 bytes."""
    monkeypatch.setattr(freeze, "LARGEST_FROZEN_BYTES", 100)


def saved(module: tf.Module, folder: Path) -> Path:
    tf.saved_model.save(module, str(folder / "saved"), signatures=module.serve)
    return folder / "saved"


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_what_does_not_fit_a_graph_is_converted_all_the_same(precision: str, tmp_path: Path) -> None:
    model = saved(Wide(200, 16, 32), tmp_path)
    loaded = tf.saved_model.load(str(model))
    function = loaded.signatures["serving_default"]
    with pytest.raises(Unsupported, match=r"its variables hold 0\.0 GiB, and a frozen graph ends at 2 GiB"):
        freeze.freeze(function)
    graph = freeze.for_export(function)
    assert sorted(value.shape for value in graph.weights.values()) == [(16, 32), (32, 16), (200, 16)]
    signature = saved_model.read_contract(model).signatures["serving_default"]
    found = convert(graph, signature, tmp_path / "out", precision=precision, version=(10, 13))
    ids = np.array([[1, 2, 3], [99, 150, 0]])
    want = function(ids=tf.constant(ids))
    got = nets.run(tmp_path / "out" / (ROUNDED if found.rounded else MODEL), {"ids": ids})
    np.testing.assert_allclose(got["y"], want["y"], atol=1e-5 if precision == "fp32" else 5e-3)
    np.testing.assert_array_equal(got["shape"], [200, 16])


@pytest.mark.usefixtures("small_graphs")
def test_lower_precision_says_that_it_takes_no_such_model(tmp_path: Path) -> None:
    model = saved(Wide(200, 16, 32), tmp_path)
    loaded = tf.saved_model.load(str(model))
    signature = saved_model.read_contract(model).signatures["serving_default"]
    with pytest.raises(Unsupported, match="over 2 GiB of variables are converted at fp32 and tf32 only"):
        convert(freeze.for_export(loaded.signatures["serving_default"]), signature, tmp_path / "out",
                precision="fp16", version=(8, 5))


@pytest.mark.usefixtures("small_graphs")
def test_loops_say_that_they_are_too_large(tmp_path: Path) -> None:
    loaded = tf.saved_model.load(str(saved(nets.Recurrent(), tmp_path)))
    with pytest.raises(Unsupported, match=r"its variables hold .* GiB, and over 2 GiB a signature with loops or "
                                          r"branches cannot be converted"):
        freeze.for_export(loaded.signatures["serving_default"])


def test_more_than_reading_a_variable_is_refused_by_name() -> None:
    graph = GraphDef()
    graph.node.add(name="variable", op="Placeholder")
    graph.node.add(name="read", op="ReadVariableOp", input=["variable"]).attr["dtype"].type = 1
    graph.node.add(name="written", op="AssignAddVariableOp", input=["variable", "read"])
    with pytest.raises(Unsupported, match=r"^over 2 GiB a variable can only be read, and AssignAddVariableOp written"):
        take_variables(graph, {"variable": tf.Variable(1.0).handle})


def make(folder: Path) -> None:
    """Save a model of 2.1 GB, and what it answers."""
    module = Wide(400_000, 1024, 64 * 1024)
    saved(module, folder)
    np.savez(folder / "answers.npz", **module.serve(tf.constant(IDS)))


def convert_twice(folder: Path) -> None:
    """Convert it for ONNX Runtime and for TensorRT; prints the most memory that this process had, in bytes."""
    model = folder / "saved"
    contract = saved_model.read_contract(model)
    request = ConversionRequest(model=model, tags=contract.tags, signatures=("serving_default",), precision="fp32")
    backend("onnxruntime").convert(request, contract, folder / "onnxruntime")
    loaded = tf.saved_model.load(str(model))
    convert(freeze.for_export(loaded.signatures["serving_default"]), contract.signatures["serving_default"],
            folder / "tensorrt", precision="fp32", version=(8, 5),
            exported=folder / "onnxruntime/serving_default" / MODEL)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def in_own_process(function: Callable[[Path], None], folder: Path) -> str:
    """What ``function`` of this file prints last."""
    file = ".".join(Path(__file__).relative_to(ROOT).with_suffix("").parts)
    code = f"from {file} import *; {function.__name__}(Path({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().rpartition("\n")[2]


@pytest.mark.slow
def test_over_2_gib_within_12_gb_of_memory(tmp_path: Path) -> None:
    try:
        in_own_process(make, tmp_path)
        assert int(in_own_process(convert_twice, tmp_path)) < 12e9
        shutil.rmtree(tmp_path / "saved")
        want = np.load(tmp_path / "answers.npz")
        for folder, kind in (("onnxruntime/serving_default", np.int64), ("tensorrt", np.int32)):
            assert (tmp_path / folder / f"{MODEL}.data").stat().st_size > 2**31
            onnx.checker.check_model(str(tmp_path / folder / MODEL))
            got = nets.run(tmp_path / folder / MODEL, {"ids": IDS.astype(kind)})
            np.testing.assert_allclose(got["y"], want["y"], atol=1e-5)
            np.testing.assert_array_equal(got["shape"], want["shape"])
            shutil.rmtree(tmp_path / folder)
    finally:
        shutil.rmtree(tmp_path)
