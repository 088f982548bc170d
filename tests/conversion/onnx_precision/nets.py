"""Small nets of each kind, exported as a run exports them, with the ranges of their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf

from tests.measured import extents
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onnx_export import export
from trt_pipeline.conversion.onnx_precision.names import Names
from trt_pipeline.model import saved_model
from trt_pipeline.model.scoped import scopes_of

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Exported:
    graph: SignatureGraph
    file: Path
    ranges: SignatureRanges
    signature: Any

    def without(self, *tensors: str) -> SignatureRanges:
        left = {name: found for name, found in self.ranges.ranges.items() if name not in tensors}
        return SignatureRanges(ranges=left, extents=left)


def measure(graph: SignatureGraph, samples: Sequence[Feeds]) -> SignatureRanges:
    """The smallest and the largest value of every tensor."""
    found = extents(graph, samples)
    return SignatureRanges(ranges=found, extents=found)


def exported(model: Path, name: str, folder: Path, samples: Sequence[Feeds]) -> Exported:
    loaded = tf.saved_model.load(str(model))
    signature = loaded.signatures[name]
    signature.keep = loaded
    graph = canonical(signature)
    file = folder / "model.onnx"
    export(graph, saved_model.read_contract(model).signatures[name], file)
    return Exported(graph, file, measure(graph, samples), signature)


def made(module: tf.Module, folder: Path, samples: Sequence[Feeds]) -> Exported:
    tf.saved_model.save(module, str(folder / "saved"), signatures=module.serve)
    return exported(folder / "saved", "serving_default", folder / "onnx", samples)


def session(file: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def run(file: Path, feeds: Feeds) -> dict[str, np.ndarray]:
    opened = session(file)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, feeds), strict=True))


def resolved(made: Exported) -> dict[str, tuple[object, object]]:
    """Name of each weighted operation -> ranges of what it reads and what it makes; each name is a node's."""
    names = Names(made.graph, onnx.load(str(made.file)))
    known = {scope.node(node.name): node.op for scope in scopes_of(made.graph.graph_def) for node in scope.nodes}
    found = {}
    for body in names.bodies:
        for node in body.graph.node:
            if body.weighted(node):
                name = names.node(body, node)
                assert known[name] in ("Conv2D", "MatMul", "BatchMatMulV2")
                assert name not in found
                found[name] = (names.range(body, node.input[0], made.ranges),
                               names.range(body, node.output[0], made.ranges))
    return found


def kinds(graph: onnx.GraphProto) -> dict[str, int]:
    """Operator -> how many, bodies left out."""
    found: dict[str, int] = {}
    for node in graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def _normal(seed: int, *shape: int) -> tf.Variable:
    return tf.Variable(np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32))


class Pointwise(tf.Module):
    """image (N, 4, 4, 3) -> features (N, 4, 4, 8): one convolution, its bias, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.bias = _normal(1, 1, 1, 3, 8), _normal(2, 8)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.float32, "image")])
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME") + self.bias)}


class Residual(tf.Module):
    """image (N, 16, 16, 3) -> probabilities (N, 5): convolutions with batch norms, a sum, pooling, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = [_normal(1, 3, 3, 3, 16), _normal(2, 3, 3, 16, 16), _normal(3, 3, 3, 16, 16)]
        self.gain, self.offset, self.dense = _normal(4, 16), _normal(5, 16), _normal(6, 16, 5)

    def norm(self, x: tf.Tensor) -> tf.Tensor:
        ones, zeros = tf.ones([16]), tf.zeros([16])
        return tf.compat.v1.nn.fused_batch_norm(x, self.gain + 1.0, self.offset, zeros, ones, is_training=False)[0]

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, "image")])
    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.nn.relu(self.norm(tf.nn.conv2d(image, self.kernels[0], 1, "SAME", name="first")))
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        y = tf.nn.relu6(self.norm(tf.nn.conv2d(x, self.kernels[1], 1, "SAME", name="second")))
        x = tf.nn.relu(x + self.norm(tf.nn.conv2d(y, self.kernels[2], 1, "SAME", name="third")))
        return {"probabilities": tf.nn.softmax(tf.matmul(tf.reduce_mean(x, [1, 2]), self.dense, name="dense"))}


class Recurrent(tf.Module):
    """start (N, 8), steps () -> state (N, 8): a product with a weight inside a loop, and one after it."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.last = _normal(1, 8, 8), _normal(2, 8, 8)

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, "start"), tf.TensorSpec([], tf.int32, "steps")])
    def serve(self, start: tf.Tensor, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        def body(i: tf.Tensor, x: tf.Tensor) -> list[tf.Tensor]:
            return [i + 1, tf.tanh(tf.matmul(x, self.step, name="inside") + 0.5 * start)]

        _, state = tf.while_loop(lambda i, x: i < steps, body, [0, start],
                                 shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 8])])
        return {"state": tf.matmul(state, self.last, name="after")}


class Normed(tf.Module):
    """x (N, 16) -> y (N, 16): a product, a layer norm written out, a product; `gain` makes the norm's squares large."""

    def __init__(self, gain: float, weight: float = 1.0) -> None:
        super().__init__()
        self.gain, self.first, self.last = gain, _normal(1, 16, 16), _normal(2, 16, 16)
        self.last.assign(self.last * weight)

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.matmul(x, self.first, name="first") * self.gain
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred, name="square"), -1, keepdims=True)
        return {"y": tf.matmul(centred * tf.math.rsqrt(variance + 1e-3), self.last, name="last")}


def images(count: int, size: int, seed: int) -> Feeds:
    return {"image": np.random.default_rng(seed).normal(0, 1, (count, size, size, 3)).astype(np.float32)}


def rows(seed: int) -> Feeds:
    """For `Normed`."""
    return {"x": np.random.default_rng(seed).normal(0, 1, (4, 16)).astype(np.float32)}


def starts(seed: int) -> Feeds:
    """For `Recurrent`."""
    start = np.random.default_rng(seed).normal(0, 1, (5, 8)).astype(np.float32)
    return {"start": start, "steps": np.array(3, np.int32)}


class Branching(tf.Module):
    """x (N, 8), times () -> y (N, 8): a loop in a loop, and branches, each with a product with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [_normal(seed, 8, 8) for seed in range(4)]

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, "x"), tf.TensorSpec([], tf.int32, "times")])
    def serve(self, x: tf.Tensor, times: tf.Tensor) -> dict[str, tf.Tensor]:
        def inner(i: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
            return [i + 1, tf.tanh(tf.matmul(y, self.weights[0], name="innermost"))]

        def outer(i: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
            y = tf.while_loop(lambda j, _: j < 2, inner, [0, y])[1]
            return [i + 1, tf.tanh(tf.matmul(y, self.weights[1], name="outer"))]

        y = tf.while_loop(lambda i, _: i < times, outer, [0, x])[1]
        return {"y": tf.cond(times > 2, lambda: tf.matmul(y, self.weights[2], name="many"),
                             lambda: tf.nn.relu(tf.matmul(y, self.weights[3], name="few")))}
