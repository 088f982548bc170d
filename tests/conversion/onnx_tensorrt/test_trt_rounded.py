"""What rounds does so by the numbers: of tensors, weights and products, and not where a node stays in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conversion.onnx_precision import nets
from trt_pipeline.conversion.halves import rounded as in_16_bits
from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.conversion.onnx_precision.half import Decision
from trt_pipeline.conversion.onnx_precision.types import BFLOAT16, HALF, Types
from trt_pipeline.conversion.onnx_tensorrt import rounded
from trt_pipeline.model.low_precision import LowPrecision

RANDOM = np.random.default_rng(0)
# From what fp16 makes zero to what it makes infinite; x @ w has nothing to sum up.
X = (RANDOM.normal(0, 1, (64, 1)) * 10.0 ** RANDOM.integers(-9, 8, (64, 1))).astype(np.float32)
W = RANDOM.normal(0, 1, (1, 16)).astype(np.float32)


def product() -> onnx.ModelProto:
    """x (N, 1) -> y (N, 16): a product with a weight."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
                              [numpy_helper.from_array(W, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def decided(model: onnx.ModelProto, code: int, *names: str) -> Decision:
    bodies = bodies_of(model)
    assert all(body.makers for body in bodies)
    chosen = frozenset(id(node) for body in bodies for node in body.graph.node if node.name in names)
    return Decision(bodies, Types(bodies), code, chosen, LowPrecision(precision="fp16", nodes=names), {}, ())


def result(model: onnx.ModelProto, folder: Path, x: np.ndarray = X) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / "model.onnx"))
    return nets.run(folder / "model.onnx", {"x": x})["y"]


@pytest.mark.parametrize(("precision", "code"), [("fp16", HALF), ("bf16", BFLOAT16)])
def test_tensors_and_weights_are_rounded(precision: str, code: int, tmp_path: Path) -> None:
    model = product()
    rounded.to_16_bits(model, decided(model, code, "product"))
    got = result(model, tmp_path)
    products = in_16_bits(X, precision) * in_16_bits(W, precision)
    np.testing.assert_array_equal(got, in_16_bits(products, precision))
    assert np.isinf(got).any() == (got == 0).any() == (precision == "fp16")


def test_what_stays_in_float32_reads_and_makes_float32(tmp_path: Path) -> None:
    model = product()
    rounded.to_16_bits(model, decided(model, HALF))
    np.testing.assert_array_equal(result(model, tmp_path), X * W)


def split(value: np.ndarray) -> np.ndarray:
    """``value`` with 11 significant bits, to the nearest."""
    fraction, exponent = np.frexp(value.astype(np.float64))
    return np.ldexp(np.rint(fraction * 2**11), exponent - 11).astype(np.float32)


@pytest.mark.parametrize("second", [X, -X])
def test_tf32_rounds_what_products_read(second: np.ndarray, tmp_path: Path) -> None:
    model = product()
    rounded.to_tf32(model)
    np.testing.assert_array_equal(result(model, tmp_path, second), split(second) * split(W))
    assert not np.array_equal(split(X), X)


def test_tf32_keeps_what_is_near_infinity(tmp_path: Path) -> None:
    model = product()
    rounded.to_tf32(model)
    limits = np.array([[-np.inf], [2e38], [np.inf], [-1.5e38]], np.float32)
    np.testing.assert_allclose(result(model, tmp_path, limits)[:, :1], limits * split(W)[:, :1], rtol=1e-3)
