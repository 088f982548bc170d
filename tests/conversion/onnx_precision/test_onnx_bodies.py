"""Loops inside loops, and branches: exported right, named, and lowered in each of their graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import tensorflow as tf

from tests.conversion.onnx_precision import nets
from trt_pipeline.conversion.onnx_precision.affine import Style
from trt_pipeline.conversion.onnx_precision.half import to_half
from trt_pipeline.conversion.onnx_precision.quantize import quantize
from trt_pipeline.conversion.onnx_while import with_counters

NONE: frozenset[str] = frozenset()


def feeds(times: int) -> nets.Feeds:
    return {"x": np.random.default_rng(times).normal(0, 1, (5, 8)).astype(np.float32),
            "times": np.array(times, np.int32)}


@pytest.fixture(scope="module")
def branching(tmp_path_factory: pytest.TempPathFactory) -> nets.Exported:
    return nets.made(nets.Branching(), tmp_path_factory.mktemp("branching"), [feeds(n) for n in (1, 2, 3, 4)])


def test_it_answers_as_tensorflow_does(branching: nets.Exported) -> None:
    for times in (0, 1, 3):
        expected = branching.signature(**{k: tf.constant(v) for k, v in feeds(times).items()})["y"].numpy()
        np.testing.assert_allclose(nets.run(branching.file, feeds(times))["y"], expected, rtol=1e-4, atol=1e-5)


def test_every_product_has_its_name_and_ranges(branching: nets.Exported) -> None:
    found = nets.resolved(branching)
    assert {name.rpartition("/")[2] for name in found} == {"innermost", "outer", "many", "few"}
    assert all(None not in pair for pair in found.values())


@pytest.mark.parametrize("style", ["cpu", "tensorrt"])
def test_int8_everywhere(branching: nets.Exported, tmp_path: Path, style: Style) -> None:
    found = quantize(branching.file, tmp_path / "int8.onnx", branching.graph, branching.ranges, NONE, style)
    assert (len(found.nodes), found.kept) == (4, {})
    for times in (1, 3):  # values shrink from step to step, so that later ones have few steps of 8 bits left
        exact, got = (nets.run(file, feeds(times))["y"] for file in (branching.file, tmp_path / "int8.onnx"))
        assert np.abs(exact - got).max() < 0.15 * np.abs(exact).max()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_16_bits_everywhere(branching: nets.Exported, tmp_path: Path, precision: Literal["fp16", "bf16"]) -> None:
    found, stayed = to_half(branching.file, tmp_path / "half.onnx", branching.graph, branching.ranges, NONE,
                            precision)
    assert (len(found.nodes), stayed) == (4, {})
    onnx.checker.check_model(onnx.load(str(tmp_path / "half.onnx")), full_check=True)
    if precision == "fp16":
        for times in (1, 3):
            exact, got = (nets.run(file, feeds(times))["y"] for file in (branching.file, tmp_path / "half.onnx"))
            np.testing.assert_allclose(got, exact, atol=5e-3)


def test_counters_are_put_in_once(branching: nets.Exported) -> None:
    once, outputs = with_counters(branching.graph.graph_def, branching.graph.outputs)
    twice, same = with_counters(once, outputs)
    assert outputs == same == branching.graph.outputs
    assert twice == once
