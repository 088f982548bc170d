"""Small SavedModels that fail at a low precision because of one known place, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.measured import extents
from trt_pipeline.calibration.ranges import RangesFile, SignatureRanges
from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.model.contract import Contract
from trt_pipeline.model.saved_model import read_contract
from trt_pipeline.model.scoped import scopes_of
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

Layers = Callable[[tf.Tensor], tf.Tensor]


class Net:
    """A net of one signature, ``x`` to ``y``, with samples and the ranges of all its tensors on them."""

    def __init__(self, folder: Path, layers: Layers, x: np.ndarray) -> None:
        module = tf.Module()
        module.serve = tf.function(lambda x: {"y": layers(x)},
                                   input_signature=[tf.TensorSpec([None, *x.shape[1:]], tf.float32, "x")])
        self.folder = folder / "model"
        tf.saved_model.save(module, str(self.folder), signatures={"serve": module.serve})
        store.write({"x": x}, folder / "samples")
        self.x, self.samples = x, Samples(folder / "samples")
        self.contract: Contract = read_contract(self.folder)
        self.loaded = tf.saved_model.load(str(self.folder))
        self.graph: SignatureGraph = canonical.canonical(self.loaded.signatures["serve"])
        self.ranges = ranges(self.graph, x)

    def ranges_file(self) -> RangesFile:
        return RangesFile(method="minmax", model_digest="d1", samples_digest="s", count=len(self.x),
                          signatures={"serve": self.ranges})

    def nodes(self, *ops: str) -> list[str]:
        """Scoped names of its nodes of these operations, in the graph's order."""
        return [scope.node(node.name) for scope in scopes_of(self.graph.graph_def) for node in scope.nodes
                if node.op in ops]

    def run(self) -> np.ndarray:
        return np.asarray(self.loaded.signatures["serve"](x=tf.constant(self.x))["y"])


def ranges(graph: SignatureGraph, x: np.ndarray) -> SignatureRanges:
    found = extents(graph, [{"x": x}])
    return SignatureRanges(ranges=found, extents=found)


def outlier_net(folder: Path) -> Net:
    """Eight layers; what the fifth one reads has a channel a thousand times as large as the others."""
    random = np.random.default_rng(0)
    weights = [random.normal(size=(32, 32)).astype(np.float32) * np.float32(np.sqrt(2 / 32)) for _ in range(8)]
    biases = [np.zeros(32, np.float32) for _ in range(8)]
    biases[3][0] = 5000
    weights[4][0] *= 1e-5

    def layers(x: tf.Tensor) -> tf.Tensor:
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = tf.nn.bias_add(tf.matmul(x, weight, name=f"layer_{number}"), bias)
            x = tf.nn.relu(x) if number < 7 else x
        return x

    return Net(folder, layers, random.normal(size=(64, 32)).astype(np.float32))


def overflowing_net(folder: Path) -> Net:
    """Two small layers around a layer normalization of numbers whose squares half precision cannot hold."""
    random = np.random.default_rng(1)
    first, last = (random.normal(size=(16, 16)).astype(np.float32) / 4 for _ in range(2))

    def layers(x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.matmul(x, first, name="first")) * 1000.0
        mean = tf.reduce_mean(x, -1, keepdims=True, name="mean")
        squares = tf.math.squared_difference(x, mean, name="squares")
        variance = tf.reduce_mean(squares, -1, keepdims=True, name="variance")
        x = (x - mean) * tf.math.rsqrt(variance + 1e-3, name="inverse")
        return tf.tanh(tf.matmul(x, last, name="last"))

    return Net(folder, layers, random.normal(size=(64, 16)).astype(np.float32))


def looping_net(folder: Path) -> Net:
    """The same product three times over, inside a while loop."""
    weight = np.random.default_rng(2).normal(size=(8, 8)).astype(np.float32) / 3

    def layers(x: tf.Tensor) -> tf.Tensor:
        step = lambda i, x: (i + 1, tf.tanh(tf.matmul(x, weight, name="step")))  # noqa: E731
        return tf.while_loop(lambda i, x: i < 3, step, [0, x])[1]

    return Net(folder, layers, np.random.default_rng(3).normal(size=(16, 8)).astype(np.float32))
