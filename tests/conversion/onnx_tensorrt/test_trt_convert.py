"""A signature becomes an ONNX file and a recipe, at each precision and for both ways to ask TensorRT for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.conversion.onnx_precision import nets
from tests.conversion.onnx_precision.nets import rows, starts
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import halves, onnx_export
from trt_pipeline.conversion.onnx_precision.bodies import bodies_of
from trt_pipeline.conversion.onnx_tensorrt import loop_state
from trt_pipeline.conversion.onnx_tensorrt.convert import Converted, convert
from trt_pipeline.engine import recipe
from trt_pipeline.engine.recipe import MODEL, ROUNDED
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import SignatureContract

FLAGS, TYPED = (8, 5), (10, 13)
BOTH = pytest.mark.parametrize("version", [FLAGS, TYPED], ids=["flags", "typed"])
# Of the largest output: what 24, 11, 11, 8 and 8 bits leave of nets of a few layers.
BOUNDS = {"fp32": 1e-5, "tf32": 5e-3, "fp16": 5e-3, "bf16": 4e-2, "int8": 1e-1}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> nets.Exported:
    """A layer norm whose squares fp16 cannot hold."""
    return nets.made(nets.Normed(gain=1000.0), tmp_path_factory.mktemp("squares"), [rows(n) for n in range(4)])


def contract_of(made: nets.Exported) -> SignatureContract:
    saved = made.file.parents[1] / "saved"
    return saved_model.read_contract(saved).signatures["serving_default"]


def converted(made: nets.Exported, folder: Path, precision: str, version: tuple[int, ...], **options: Any) -> Converted:
    given = {"ranges": made.ranges, "exported": made.file} | options
    return convert(made.graph, contract_of(made), folder, precision=precision, version=version, **given)


def original(made: nets.Exported, feeds: nets.Feeds) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in
            made.signature(**{name: tf.constant(value) for name, value in feeds.items()}).items()}


def estimate(folder: Path, made: Converted) -> Path:
    """The file by which the engine is judged where there is no GPU."""
    return folder / (ROUNDED if made.rounded else MODEL)


def error(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> float:
    assert got.keys() == want.keys()
    return max(float(np.abs(got[name] - want[name]).max() / np.abs(want[name]).max()) for name in want)


@BOTH
@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("net", ["residual", "recurrent"])
def test_what_estimates_it_is_as_near_to_tensorflow_as_the_precision(
        net: str, precision: str, version: tuple[int, ...], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made, feeds = request.getfixturevalue(net), {"residual": nets.images(5, 16, 9), "recurrent": starts(9)}[net]
    if precision == "bf16" and version == FLAGS:
        with pytest.raises(Unsupported, match=r"TensorRT 8\.5 has no bf16"):
            converted(made, tmp_path, precision, version)
        return
    found = converted(made, tmp_path, precision, version)
    far = error(nets.run(estimate(tmp_path, found), feeds), original(made, feeds))
    assert far <= BOUNDS[precision]
    assert precision == "fp32" or far > 1e-6
    assert recipe.read(tmp_path) == found.recipe
    assert (found.recipe.precision, found.recipe.typed) == (precision, version == TYPED)
    assert found.recipe.tensorrt == (".".join(map(str, version)))
    assert found.rounded == (precision in ("tf32", "fp16", "bf16"))
    assert (found.low_precision is None) == (precision in ("fp32", "tf32"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [MODEL, "recipe.json", *([ROUNDED] if found.rounded else [])]
    # It is float32 for flags, and has the types of the precision where they say it.
    kinds = {value.type.tensor_type.elem_type for body in bodies_of(onnx.load(str(tmp_path / MODEL)))
             for value in body.graph.value_info}
    assert bool(kinds & {10, 16}) == (precision in ("fp16", "bf16") and version == TYPED)
    assert (3 in kinds) == (precision == "int8")


@BOTH
def test_what_fp16_cannot_hold_stays_in_fp32(squares: nets.Exported, version: tuple[int, ...], tmp_path: Path) -> None:
    found = converted(squares, tmp_path, "fp16", version)
    low = found.low_precision
    assert low is not None
    assert all("overflow" in why for why in low.others.values())
    nodes = {node.name: node for node in onnx.load(str(tmp_path / MODEL)).graph.node}
    if version == FLAGS:
        assert len(found.recipe.fp32_layers) == len(low.others) >= 2
        assert {nodes[name].op_type for name in found.recipe.fp32_layers} >= {"Mul", "ReduceMean"}
    else:
        assert found.recipe.fp32_layers == ()
    got = nets.run(tmp_path / ROUNDED, rows(9))
    assert np.isfinite(got["y"]).all()
    assert error(got, original(squares, rows(9))) < 5e-3


def test_what_overflows_shows_as_infinity(squares: nets.Exported, tmp_path: Path) -> None:
    found = converted(squares, tmp_path, "fp16", FLAGS, ranges=None)  # without samples nothing is known of it
    assert found.recipe.fp32_layers == ()
    # The root of infinity divides: what comes out is nothing but zeros, or not a number.
    got = nets.run(tmp_path / ROUNDED, rows(9))["y"]
    assert not got.any() or np.isnan(got).any()
    assert error(nets.run(tmp_path / MODEL, rows(9)), original(squares, rows(9))) < 1e-5


@BOTH
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_operation_reads_what_16_bits_hold(residual: nets.Exported, precision: str, version: tuple[int, ...],
                                                 tmp_path: Path) -> None:
    converted(residual, tmp_path, precision, (9, 0) if version == FLAGS else version)
    model = onnx.load(str(tmp_path / ROUNDED))
    read = {name for node in model.graph.node if node.op_type in ("Conv", "Relu", "Clip", "Add", "MatMul", "Softmax")
            for name in node.input}
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in read - outputs)
    onnx.save(model, str(tmp_path / "open.onnx"))
    found = nets.run(tmp_path / "open.onnx", nets.images(3, 16, 5))
    assert len(found) > 12
    for value in found.values():
        np.testing.assert_array_equal(value, halves.rounded(value, precision))


@BOTH
def test_islands_stay_in_fp32(recurrent: nets.Exported, version: tuple[int, ...], tmp_path: Path) -> None:
    every = converted(recurrent, tmp_path / "all", "fp16", version).low_precision
    assert every is not None
    inside = next(name for name in every.nodes if ".body/" in name)
    for precision in ("fp16", "int8"):
        found = converted(recurrent, tmp_path / precision, precision, version, raised=frozenset({inside}))
        assert found.low_precision is not None
        assert found.low_precision.kept == {inside: "raised"}
        if version == FLAGS and precision == "fp16":
            body = bodies_of(onnx.load(str(tmp_path / precision / MODEL)))[1]
            assert set(found.recipe.fp32_layers) == {node.name for node in body.graph.node
                                                     if node.op_type in ("MatMul", "Gemm")}


def test_loops_stay_and_hold_their_weights_and_every_name_is_one_nodes(tmp_path: Path) -> None:
    feeds = {"x": np.ones((3, 8), np.float32) / 3, "times": np.array(2, np.int32)}
    made = nets.made(nets.Branching(), tmp_path, [feeds])
    converted(made, tmp_path / "out", "fp16", FLAGS)
    model = onnx.load(str(tmp_path / "out" / MODEL))
    bodies = bodies_of(model)
    assert {"Loop", "If"} <= set(nets.kinds(model.graph))
    assert loop_state.lengthened(model) == []
    assert all(body.weighted(node) for body in bodies for node in body.graph.node if node.op_type in ("MatMul", "Gemm"))
    names = [node.name for body in bodies for node in body.graph.node]
    assert all(names) and len(set(names)) == len(names)
    for times in (2, 4):
        feeds["times"] = np.array(times, np.int32)
        assert error(nets.run(tmp_path / "out" / MODEL, feeds), original(made, feeds)) < 1e-5
        assert error(nets.run(tmp_path / "out" / ROUNDED, feeds), original(made, feeds)) < 1e-2


def test_free_axes_stay_free_and_every_rank_is_known(residual: nets.Exported, tmp_path: Path) -> None:
    found = converted(residual, tmp_path, "fp32", FLAGS, exported=None)
    assert found.facts["nodes"]["Conv"] == 3
    model = onnx.load(str(tmp_path / MODEL))
    assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "", "", ""]
    ranks = {value.name: value.type.tensor_type.HasField("shape") for value in model.graph.value_info}
    assert all(ranks[name] for node in model.graph.node for name in node.output if name != "probabilities")
    for batch in (1, 7):
        feeds = nets.images(batch, 16, batch)
        assert error(nets.run(tmp_path / MODEL, feeds), original(residual, feeds)) < 1e-5


@BOTH
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_large_weights_lie_beside_it(precision: str, version: tuple[int, ...], tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_LARGEST_INLINE_BYTES", 1)
    made = nets.made(nets.Residual(), tmp_path, [nets.images(2, 16, 0)])
    found = converted(made, tmp_path / "out", precision, version)
    assert (tmp_path / "out" / f"{MODEL}.data").exists()
    assert made.file.with_name(f"{MODEL}.data").exists()
    # What rounds reads the same weights, save where the model's own have another type.
    assert (tmp_path / "out" / f"{ROUNDED}.data").exists() == (precision == "fp16" and version == TYPED)
    feeds = nets.images(3, 16, 4)
    assert error(nets.run(estimate(tmp_path / "out", found), feeds), original(made, feeds)) < BOUNDS[precision]
    assert error(nets.run(tmp_path / "out" / MODEL, feeds), original(made, feeds)) < BOUNDS[precision]


def test_int8_without_ranges_asks_for_samples(residual: nets.Exported, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="signature serving_default has not been calibrated: give it calibration"):
        converted(residual, tmp_path, "int8", FLAGS, ranges=None)


@pytest.mark.parametrize(("version", "narrowed"), [(FLAGS, {"input": "int64"}), (TYPED, {})],
                         ids=["flags", "typed"])
def test_a_translator_keeps_its_loop_and_every_token(version: tuple[int, ...], narrowed: dict[str, str],
                                                     enko: nets.Exported, tmp_path: Path) -> None:
    signature = saved_model.read_contract(ROOT / "models/enko/1").signatures["translate"]
    found = convert(enko.graph, signature, tmp_path, precision="fp32", version=version, exported=enko.file)
    assert found.recipe.narrowed == narrowed
    model = onnx.load(str(tmp_path / MODEL))
    assert "Loop" in nets.kinds(model.graph)
    sentences = np.load(ROOT / "calibration_data/enko_validation.npz")["input"][:8]
    given = sentences.astype(np.int32) if "input" in found.recipe.narrowed else sentences
    want = original(enko, {"input": sentences})
    got = nets.run(tmp_path / MODEL, {"input": given})
    np.testing.assert_array_equal(got["outputs"], want["outputs"])
    # The tokens so far and the keys and values of two layers get longer at each turn, which TensorRT may refuse.
    assert len(found.facts["loop state that grows, which TensorRT may refuse"]) == 5


def test_a_translator_in_fp16_changes_hardly_a_token(enko: nets.Exported, tmp_path: Path) -> None:
    signature = saved_model.read_contract(ROOT / "models/enko/1").signatures["translate"]
    found = convert(enko.graph, signature, tmp_path, precision="fp16", version=FLAGS, exported=enko.file,
                    ranges=enko.ranges)
    assert found.low_precision is not None
    assert len(found.low_precision.nodes) == 33
    nodes = {node.name: node for body in bodies_of(onnx.load(str(tmp_path / MODEL))) for node in body.graph.node}
    kinds = {nodes[name].op_type for name in found.recipe.fp32_layers}
    assert "Softmax" in kinds and "Shape" not in kinds  # what its masks go into
    assert any("would overflow: 1.0e+09" in why for why in found.low_precision.others.values())
    sentences = np.load(ROOT / "calibration_data/enko_validation.npz")["input"][:8]
    given = sentences.astype(np.int32) if "input" in found.recipe.narrowed else sentences
    want = original(enko, {"input": sentences})["outputs"]
    got = nets.run(tmp_path / ROUNDED, {"input": given})["outputs"]
    length = min(want.shape[1], got.shape[1])
    assert np.mean(got[:, :length] == want[:, :length]) > 0.97


def test_demo(tmp_path: Path) -> None:
    samples = [{"image": np.load(ROOT / "calibration_data/demo.npz")["image"][:8]}]
    made = nets.exported(ROOT / "models/demo/1", "serving_default", tmp_path, samples)
    signature = saved_model.read_contract(ROOT / "models/demo/1").signatures["serving_default"]
    empty = SignatureRanges(ranges={}, extents={})
    for precision in ("fp32", "fp16", "int8"):
        found = convert(made.graph, signature, tmp_path / precision, precision=precision, version=FLAGS,
                        exported=made.file, ranges=made.ranges if precision == "int8" else empty)
        got = nets.run(estimate(tmp_path / precision, found), samples[0])
        assert error(got, original(made, samples[0])) < BOUNDS[precision]
