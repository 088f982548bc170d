"""A real translator that decodes in a loop: all of it has names, and its decoder runs in int8 and in fp16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import ROOT
from tests.conversion.onnx_precision import nets
from trt_pipeline.conversion.onnx_precision import proof
from trt_pipeline.conversion.onnx_precision.half import to_half
from trt_pipeline.conversion.onnx_precision.quantize import quantize

NONE: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def sentences() -> nets.Feeds:
    return {"input": np.load(ROOT / "calibration_data/enko_validation.npz")["input"][:16]}


def equal_tokens(made: Path, exact: Path, feeds: nets.Feeds) -> float:
    first, second = (nets.run(file, feeds)["outputs"] for file in (made, exact))
    length = max(first.shape[1], second.shape[1])
    first, second = (np.pad(tokens, [(0, 0), (0, length - tokens.shape[1])]) for tokens in (first, second))
    spoken = (first != 0) | (second != 0)
    return float(np.mean((first == second)[spoken]))


def test_every_product_with_a_weight_has_its_name_and_ranges(enko: nets.Exported) -> None:
    found = nets.resolved(enko)
    assert len(found) == 33
    assert sum(".body/" in name for name in found) == 17
    assert all(None not in pair for pair in found.values())
    assert "StatefulPartitionedCall/while.body/while/Tensordot_2/MatMul" in found


def test_all_run_in_int8(enko: nets.Exported, sentences: nets.Feeds, tmp_path: Path) -> None:
    found = quantize(enko.file, tmp_path / "int8.onnx", enko.graph, enko.ranges, NONE, "cpu")
    assert (len(found.nodes), found.kept) == (33, {})
    assert proof.really(tmp_path / "int8.onnx", "int8").counts == (33, 33)
    assert equal_tokens(tmp_path / "int8.onnx", enko.file, sentences) > 0.7


def test_an_answer_in_int8_does_not_depend_on_what_else_is_in_the_batch(
        enko: nets.Exported, sentences: nets.Feeds, tmp_path: Path) -> None:
    quantize(enko.file, tmp_path / "int8.onnx", enko.graph, enko.ranges, NONE, "cpu")
    together = nets.run(tmp_path / "int8.onnx", sentences)["outputs"]
    for row in range(4):
        alone = nets.run(tmp_path / "int8.onnx", {"input": sentences["input"][row:row + 1]})["outputs"][0]
        assert np.trim_zeros(alone, "b").tolist() == np.trim_zeros(together[row], "b").tolist()


def test_its_masks_stay_in_fp32_and_every_token_is_the_same_in_fp16(
        enko: nets.Exported, sentences: nets.Feeds, tmp_path: Path) -> None:
    found, stayed = to_half(enko.file, tmp_path / "half.onnx", enko.graph, enko.ranges, NONE, "fp16")
    assert len(found.nodes) == 33
    assert any(why.startswith("would overflow: 1.0e+09") for why in stayed.values())
    assert equal_tokens(tmp_path / "half.onnx", enko.file, sentences) > 0.98


def test_bfloat16_is_valid_onnx(enko: nets.Exported, tmp_path: Path) -> None:
    found, _ = to_half(enko.file, tmp_path / "bf16.onnx", enko.graph, enko.ranges, NONE, "bf16")
    assert len(found.nodes) == 33
    onnx.checker.check_model(onnx.load(str(tmp_path / "bf16.onnx")), full_check=True)
