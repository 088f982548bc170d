"""FP16 and BF16 by casts in the graph: nothing overflows, and what stays in fp32 is listed with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from tests.conversion.onnx_precision import nets
from tests.conversion.onnx_precision.nets import rows, starts
from trt_pipeline.conversion import onnx_export
from trt_pipeline.conversion.onnx_precision import proof
from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.conversion.onnx_precision.half import to_half
from trt_pipeline.errors import Unsupported

NONE: frozenset[str] = frozenset()
HALF = onnx.TensorProto.FLOAT16


def last(names: object) -> set[str]:
    return {name.rpartition("/")[2] for name in names}  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_net_all_in_16_bits_has_casts_at_its_ends_only(tmp_path: Path, precision: Literal["fp16", "bf16"]) -> None:
    made = nets.made(nets.Residual(), tmp_path, [nets.images(4, 16, 0)])
    found, stayed = to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, NONE, precision)
    assert (len(found.nodes), found.kept, stayed) == (4, {}, {})
    model = onnx.load(str(tmp_path / "half.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert nets.kinds(model.graph)["Cast"] == 2
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {onnx.TensorProto.FLOAT}
    if precision == "fp16":
        feeds = nets.images(4, 16, 1)
        np.testing.assert_allclose(nets.run(tmp_path / "half.onnx", feeds)["probabilities"],
                                   nets.run(made.file, feeds)["probabilities"], atol=5e-3)
        # x86 kernels compute it in fp32, and the proof says so.
        assert proof.really(tmp_path / "half.onnx", "fp16").counts[1] == 4


def test_loops_compute_in_16_bits_and_carry_32(tmp_path: Path) -> None:
    made = nets.made(nets.Recurrent(), tmp_path, [starts(n) for n in range(2)])
    found, _ = to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, NONE, "fp16")
    assert sum(".body/" in name for name in found.nodes) == 1
    assert not found.kept
    model = onnx.load(str(tmp_path / "half.onnx"))
    onnx.checker.check_model(model, full_check=True)
    body = bodies_of(model)[1]
    floats = [v for v in (*body.graph.input, *body.graph.output) if v.type.tensor_type.elem_type == 10]
    assert not floats
    product = next(node for node in body.graph.node if node.op_type in ("MatMul", "Gemm"))
    weight = body.constant(product.input[1])
    assert weight is not None
    assert weight.data_type == HALF
    np.testing.assert_allclose(nets.run(tmp_path / "half.onnx", starts(5))["state"],
                               nets.run(made.file, starts(5))["state"], atol=5e-3)


def test_a_norm_of_large_values_stays_and_no_more(tmp_path: Path) -> None:
    made = nets.made(nets.Normed(gain=1000.0), tmp_path, [rows(n) for n in range(4)])
    found, stayed = to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, NONE, "fp16")
    assert last(found.nodes) == {"first", "last"}
    # The squares, their mean, what adds epsilon to it and takes the root: of what holds the product, nothing.
    assert "square" in last(stayed)
    assert all("overflow" in why for why in stayed.values())
    assert len(stayed) <= 4
    got = nets.run(tmp_path / "half.onnx", rows(9))["y"]
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, nets.run(made.file, rows(9))["y"], atol=2e-2)
    _, without = to_half(made.file, tmp_path / "bf16.onnx", made.graph, made.ranges, NONE, "bf16")
    assert without == {}


def test_small_values_stay_nowhere(tmp_path: Path) -> None:
    made = nets.made(nets.Normed(gain=1.0), tmp_path, [rows(n) for n in range(4)])
    _, stayed = to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, NONE, "fp16")
    assert stayed == {}


@pytest.mark.parametrize(("scale", "why"), [(1e6, "would overflow: "), (1e-9, "would be all zero: ")])
def test_a_weight_that_fp16_cannot_hold(tmp_path: Path, scale: float, why: str) -> None:
    made = nets.made(nets.Normed(gain=1.0, weight=scale), tmp_path, [rows(0)])
    found, stayed = to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, NONE, "fp16")
    assert last(found.nodes) == {"first"}
    assert last(found.kept) == last(stayed) == {"last"}
    assert next(iter(found.kept.values())).startswith(why)


def test_what_is_raised_stays(tmp_path: Path) -> None:
    made = nets.made(nets.Recurrent(), tmp_path, [starts(0)])
    every, _ = to_half(made.file, tmp_path / "all.onnx", made.graph, made.ranges, NONE, "fp16")
    inside = next(name for name in every.nodes if ".body/" in name)
    found, stayed = to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, frozenset({inside}), "fp16")
    assert found.kept == stayed == {inside: "raised"}
    with pytest.raises(Unsupported, match=r"no operation could be converted to fp16: .*: raised"):
        to_half(made.file, tmp_path / "half.onnx", made.graph, made.ranges, frozenset(every.nodes), "fp16")


def test_large_weights_stay_in_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_LARGEST_INLINE_BYTES", 1)
    made = nets.made(nets.Residual(), tmp_path, [nets.images(2, 16, 0)])
    to_half(made.file, tmp_path / "half" / "model.onnx", made.graph, made.ranges, NONE, "fp16")
    assert (tmp_path / "half" / "model.onnx.data").exists()
    feeds = nets.images(4, 16, 1)
    np.testing.assert_allclose(nets.run(tmp_path / "half" / "model.onnx", feeds)["probabilities"],
                               nets.run(made.file, feeds)["probabilities"], atol=5e-3)
