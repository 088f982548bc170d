"""INT8 by measured ranges: right within a step, in chains and in loops, for ONNX Runtime and for TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conversion.onnx_precision import nets
from tests.conversion.onnx_precision.nets import starts
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import onnx_export
from trt_pipeline.conversion.onnx_precision import proof
from trt_pipeline.conversion.onnx_precision.affine import Style, activation, bias, largest_weight, weight
from trt_pipeline.conversion.onnx_precision.quantize import quantize
from trt_pipeline.errors import Unsupported

NONE: frozenset[str] = frozenset()
STYLES = ("cpu", "tensorrt")


def graph(file: Path) -> onnx.GraphProto:
    model = onnx.load(str(file))
    onnx.checker.check_model(model, full_check=True)
    return model.graph


def sqnr(exact: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - got) ** 2)))


def test_a_convolution_computes_what_integers_compute(tmp_path: Path) -> None:
    module, samples = nets.Pointwise(), [nets.images(4, 4, n) for n in range(3)]
    made = nets.made(module, tmp_path, samples)
    quantize(made.file, tmp_path / "int8.onnx", made.graph, made.ranges, NONE, "cpu")
    image = samples[0]["image"]
    every = np.concatenate([sample["image"] for sample in samples])
    x = activation((float(every.min()), float(every.max())), "cpu")
    integers, scales = weight(module.kernel.numpy()[0, 0].T, 0, largest_weight("cpu"))
    read = np.clip(np.rint(image / x.scale) + x.zero_point, 0, 255) - x.zero_point
    sums = np.einsum("nhwi,oi->nhwo", read, integers.astype(np.float64))
    sums += bias(module.bias.numpy(), x.scale * scales)
    exact = np.maximum(sums * x.scale * scales, 0)
    made_range = next(found for name, found in made.ranges.ranges.items() if name.endswith("/Relu:0"))
    y = activation(made_range, "cpu")
    emulated = np.clip(np.rint(exact / y.scale), 0, 255) * y.scale
    got = nets.run(tmp_path / "int8.onnx", {"image": image})["features"]
    assert np.abs(got - emulated).max() <= y.scale * 1.001
    assert np.mean(np.abs(got - emulated) < y.scale / 2) > 0.99


@pytest.mark.parametrize("style", STYLES)
def test_a_net_keeps_its_answers(residual: nets.Exported, tmp_path: Path, style: Style) -> None:
    found = quantize(residual.file, tmp_path / "int8.onnx", residual.graph, residual.ranges, NONE, style)
    assert (len(found.nodes), found.kept) == (4, {})
    feeds = nets.images(16, 16, 77)
    exact = nets.run(residual.file, feeds)["probabilities"]
    got = nets.run(tmp_path / "int8.onnx", feeds)["probabilities"]
    assert sqnr(exact, got) > 20
    graph(tmp_path / "int8.onnx")


def test_on_the_cpu_the_whole_chain_runs_in_8_bits(residual: nets.Exported, tmp_path: Path) -> None:
    quantize(residual.file, tmp_path / "int8.onnx", residual.graph, residual.ranges, NONE, "cpu")
    assert proof.really(tmp_path / "int8.onnx", "int8").counts == (4, 4)
    assert proof.really(residual.file, "int8").counts == (0, 4)
    left = nets.kinds(graph(tmp_path / "int8.onnx"))
    assert "Relu" not in left
    assert "Clip" not in left
    zero_points = {i.data_type for i in graph(tmp_path / "int8.onnx").initializer if i.name.endswith("/zero")}
    assert zero_points == {onnx.TensorProto.UINT8}


def test_for_tensorrt_inputs_are_symmetric_and_the_residual_is_said_in_8_bits_too(
        residual: nets.Exported, tmp_path: Path) -> None:
    quantize(residual.file, tmp_path / "int8.onnx", residual.graph, residual.ranges, NONE, "tensorrt")
    made = graph(tmp_path / "int8.onnx")
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in made.initializer}
    pairs = [node for node in made.node if node.op_type == "QuantizeLinear"]
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in pairs)
    makers = {output: node for node in made.node for output in node.output}
    convolutions = [node for node in made.node if node.op_type == "Conv"]
    assert all(makers[node.input[n]].op_type == "DequantizeLinear" for node in convolutions for n in (0, 1))
    assert all(node.input[2] in constants for node in convolutions)  # biases as they were
    total = next(node for node in made.node if node.op_type == "Add")
    assert {makers[name].op_type for name in total.input} == {"Conv", "DequantizeLinear"}
    scales = [constants[makers[node.input[1]].input[1]] for node in convolutions]
    assert all(scale.shape == (16,) for scale in scales)


@pytest.mark.parametrize("style", STYLES)
def test_products_in_loops_too(recurrent: nets.Exported, tmp_path: Path, style: Style) -> None:
    found = quantize(recurrent.file, tmp_path / "int8.onnx", recurrent.graph, recurrent.ranges, NONE, style)
    assert sum(".body/" in name for name in found.nodes) == 1
    assert (len(found.nodes), found.kept) == (2, {})
    feeds = starts(9)
    assert sqnr(nets.run(recurrent.file, feeds)["state"], nets.run(tmp_path / "int8.onnx", feeds)["state"]) > 20


@pytest.mark.parametrize("style", STYLES)
def test_what_is_raised_stays(recurrent: nets.Exported, tmp_path: Path, style: Style) -> None:
    every = quantize(recurrent.file, tmp_path / "all.onnx", recurrent.graph, recurrent.ranges, NONE, style)
    inside = next(name for name in every.nodes if ".body/" in name)
    found = quantize(recurrent.file, tmp_path / "int8.onnx", recurrent.graph, recurrent.ranges,
                     frozenset({inside}), style)
    assert found.kept == {inside: "raised"}
    assert found.share == 0.5
    with pytest.raises(Unsupported, match=r"no operation could be quantized: .*: raised, and 1 more"):
        quantize(recurrent.file, tmp_path / "int8.onnx", recurrent.graph, recurrent.ranges, frozenset(every.nodes),
                 style)


def test_raised_convolutions_run_in_fp32_within_the_chain(residual: nets.Exported, tmp_path: Path) -> None:
    every = quantize(residual.file, tmp_path / "all.onnx", residual.graph, residual.ranges, NONE, "cpu")
    for name in every.nodes:
        found = quantize(residual.file, tmp_path / "int8.onnx", residual.graph, residual.ranges, frozenset({name}),
                         "cpu")
        assert found.kept == {name: "raised"}
        feeds = nets.images(4, 16, 5)
        assert sqnr(nets.run(residual.file, feeds)["probabilities"],
                    nets.run(tmp_path / "int8.onnx", feeds)["probabilities"]) > 20


def test_what_has_no_range_stays_and_says_so(recurrent: nets.Exported, tmp_path: Path) -> None:
    every = quantize(recurrent.file, tmp_path / "all.onnx", recurrent.graph, recurrent.ranges, NONE, "cpu")
    inside = next(name for name in every.nodes if ".body/" in name)
    ranges = recurrent.without(*(name for name in recurrent.ranges.ranges if ".body/while_placeholder" in name))
    found = quantize(recurrent.file, tmp_path / "int8.onnx", recurrent.graph, ranges, NONE, "cpu")
    assert list(found.kept) == [inside]
    assert found.kept[inside].startswith("no range is known of ")
    with pytest.raises(Unsupported, match="no range is known of"):
        quantize(recurrent.file, tmp_path / "int8.onnx", recurrent.graph, SignatureRanges(ranges={}, extents={}),
                 NONE, "cpu")


@pytest.mark.parametrize("style", STYLES)
def test_large_weights_stay_in_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  style: Style) -> None:
    monkeypatch.setattr(onnx_export, "_LARGEST_INLINE_BYTES", 1)
    made = nets.made(nets.Residual(), tmp_path, [nets.images(2, 16, 0)])
    assert (made.file.parent / "model.onnx.data").exists()
    for _ in range(2):  # a second time over the first
        quantize(made.file, tmp_path / "int8" / "model.onnx", made.graph, made.ranges, NONE, style)
    assert sorted(p.name for p in (tmp_path / "int8").iterdir()) == ["model.onnx", "model.onnx.data"]
    data = tmp_path / "int8" / "model.onnx.data"
    assert 0 < data.stat().st_size < (made.file.parent / "model.onnx.data").stat().st_size
    feeds = nets.images(4, 16, 1)
    assert sqnr(nets.run(made.file, feeds)["probabilities"],
                nets.run(tmp_path / "int8" / "model.onnx", feeds)["probabilities"]) > 20
