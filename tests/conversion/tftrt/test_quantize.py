"""INT8 around convolutions: ranges as numpy finds them, and TensorRT's own arithmetic on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conversion.tftrt.builders import (
    Array,
    Graph,
    answers,
    converted,
    floats,
    graph_of,
    nodes,
    numbers,
    run,
    save,
    signature,
    standing_in,
)
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.canonical import root
from trt_pipeline.conversion.tftrt import quantize
from trt_pipeline.conversion.tftrt.convert import convert
from trt_pipeline.conversion.tftrt.quantize import insert, is_ours
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.scoped import scopes_of

# Numbers that FP16 has too: what it does to others before they are quantized is no matter here.
KERNEL = numbers(3, 3, 2, 4, scale=0.4).astype(np.float16).astype(np.float32)
IMAGES = numbers(6, 5, 5, 2, seed=1).astype(np.float16).astype(np.float32)
SPEC = floats(None, 5, 5, 2)


def convolution(x: Any, kernel: Any = None) -> Any:
    return tf.nn.conv2d(x, tf.constant(KERNEL) if kernel is None else kernel, 1, "SAME")


def one_convolution(folder: Path, dtype: tf.DType = tf.float32) -> Path:
    module = tf.Module()
    module.kernel = tf.Variable(tf.cast(KERNEL, dtype))

    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.cast(tf.nn.relu(convolution(tf.cast(x, dtype), module.kernel)) + 1.0, tf.float32)}

    return save(folder, module, serving_default=(call, [SPEC]))


def rounded(values: Array, largest: float) -> Array:
    """What TensorRT's explicit quantization makes of ``values``."""
    step = np.float32(largest) / np.float32(127)
    return np.clip(np.rint(values / step), -128, 127).astype(np.float32) * step


def read_by_convolutions(graph: Graph) -> list[str]:
    """The tensors that the convolutions of a graph read, images first and each kernel after its own."""
    found = [f"{source}:0" for node in graph.graph_def.node if node.op in ("Conv2D", "DepthwiseConv2dNative")
             for source in node.input[:2]]
    return list(dict.fromkeys(found))


def ranges(graph: Graph, low: float = -2.0, high: float = 4.0) -> SignatureRanges:
    return SignatureRanges(ranges=dict.fromkeys(read_by_convolutions(graph), (low, high)), extents={})


def test_both_inputs_of_a_convolution_are_quantized_per_tensor() -> None:
    graph = Graph(lambda x: tf.nn.relu(convolution(x)), SPEC)
    made, low = insert(graph.graph_def, ranges(graph))
    assert (low.precision, len(low.nodes), low.kept) == ("int8", 1, {})
    ours = [node for node in made.node if is_ours(node)]
    assert sorted(node.name for node in ours) == sorted(next(n for n in made.node if n.op == "Conv2D").input)
    for node in ours:
        assert (node.attr["axis"].i, node.attr["num_bits"].i) == (-1, 8)
        assert (node.attr["signed_input"].b, node.attr["range_given"].b, node.attr["narrow_range"].b) == (
            True, True, False)
    assert not [node for node in graph.graph_def.node if is_ours(node)], "it works on a copy"


def test_the_arithmetic_is_tensorrt_s() -> None:
    graph = Graph(convolution, SPEC)
    # Less than the largest value: what lies beyond saturates, below at -128 and above at 127.
    got = graph.run(IMAGES, graph_def=insert(graph.graph_def, ranges(graph, -1.5, 1.25))[0])[0]
    quantized = rounded(IMAGES, 1.5), rounded(KERNEL, float(np.abs(KERNEL).max()))
    assert quantized[0].min() == pytest.approx(-1.5 * 128 / 127)
    expected = tf.nn.conv2d(quantized[0], quantized[1], 1, "SAME").numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(got - graph.run(IMAGES)[0]).max() > 0.05, "rounding can be told from none"


def test_halves_are_rounded_to_even() -> None:
    graph = Graph(convolution, SPEC)
    image = read_by_convolutions(graph)[0]
    made, _ = insert(graph.graph_def, ranges(graph, -1.0, 127 / 64))  # a step is 1/64
    halves = (np.arange(50, dtype=np.float32) - 25.5).reshape(1, 5, 5, 2) / 64
    quantizer = next(node for node in made.node if is_ours(node) and f"{node.input[0]}:0" == image)
    np.testing.assert_array_equal(run(made, {image: halves}, [f"{quantizer.name}:0"])[0], rounded(halves, 127 / 64))
    assert set(np.rint(halves * 64).ravel() % 2) == {0}


def test_the_estimate_of_a_candidate_rounds_to_8_bits_and_its_surgery_does_not(tmp_path: Path) -> None:
    model = one_convolution(tmp_path / "model")
    artifact, made = converted(model, tmp_path / "made", "int8", {"x": IMAGES})
    assert artifact.description["serving_default"]["convolutions in int8"] == 1
    assert len([node for node in nodes(graph_of(made), "QuantizeAndDequantizeV2") if is_ours(node)]) == 2
    np.testing.assert_allclose(standing_in(made, "surgery", x=IMAGES)["y"], answers(model, x=IMAGES)["y"], rtol=1e-6)
    quantized = rounded(IMAGES, float(np.abs(IMAGES).max())), rounded(KERNEL, float(np.abs(KERNEL).max()))
    expected = np.maximum(tf.nn.conv2d(*quantized, 1, "SAME").numpy(), 0) + 1
    # Around the convolution TensorRT may use FP16, which has 11 bits.
    np.testing.assert_allclose(standing_in(made, "estimate", x=IMAGES)["y"], expected, rtol=2e-3, atol=1e-3)


def test_a_tensor_that_is_always_zero_is_left_alone() -> None:
    def call(x: Any) -> Any:
        return convolution(x) + convolution(x * 0.0, tf.constant(KERNEL * 2))

    graph = Graph(call, SPEC)
    image, _, zeros, _ = read_by_convolutions(graph)
    made, low = insert(graph.graph_def, SignatureRanges(ranges={image: (-3.0, 3.0), zeros: (0.0, 0.0)}, extents={}))
    assert (len(low.nodes), list(low.kept.values())) == (1, ["what it reads is all zero or infinite"])
    second = [node for node in made.node if node.op == "Conv2D"][1]
    assert not any(source.endswith("/int8") for source in second.input)
    assert np.isfinite(graph.run(IMAGES, graph_def=made)[0]).all()


def test_no_usable_range_at_all_is_refused() -> None:
    graph = Graph(convolution, SPEC)
    with pytest.raises(Unsupported, match="no convolution can be quantized: what it reads is all zero or infinite"):
        insert(graph.graph_def, ranges(graph, 0.0, 0.0))


def test_a_convolution_whose_range_is_missing_stays_as_it_was() -> None:
    graph = Graph(lambda x: convolution(x) + convolution(x * 3.0), SPEC)
    image = read_by_convolutions(graph)[0]
    _, low = insert(graph.graph_def, SignatureRanges(ranges={image: (-1.0, 1.0)}, extents={}))
    assert (len(low.nodes), list(low.kept.values())) == (1, ["no range was measured for what it reads"])


def test_what_is_raised_stays_as_it_was() -> None:
    graph = Graph(lambda x: convolution(x) + convolution(x * 3.0), SPEC)
    _, both = insert(graph.graph_def, ranges(graph))
    made, low = insert(graph.graph_def, ranges(graph), frozenset(both.nodes[:1]))
    assert (low.nodes, low.kept) == (both.nodes[1:], {both.nodes[0]: "raised"})
    assert len([node for node in made.node if is_ours(node)]) == 2


def test_convolutions_in_a_loop_are_quantized_too() -> None:
    def call(x: Any) -> Any:
        return tf.while_loop(lambda n, y: n < 3, lambda n, y: (n + 1, tf.nn.relu(
            tf.nn.conv2d(y, tf.constant(KERNEL[..., :2]), 1, "SAME"))), [0, x])[1]

    graph = Graph(call, SPEC)
    body = next(scope for scope in scopes_of(graph.graph_def) if "Conv2D" in {node.op for node in scope.nodes})
    read = root(body, next(node for node in body.nodes if node.op == "Conv2D").input[0])
    made, low = insert(graph.graph_def, SignatureRanges(ranges={read: (-4.0, 4.0)}, extents={}))
    assert len(low.nodes) == 1
    got, exact = graph.run(IMAGES, graph_def=made)[0], graph.run(IMAGES)[0]
    assert 1e-3 < np.abs(got - exact).max() < 0.2 * np.abs(exact).max()


def test_a_graph_of_products_only_is_sent_to_the_backends_that_can() -> None:
    graph = Graph(lambda x: tf.nn.relu(x @ tf.ones([8, 8])) @ tf.ones([8, 2]), floats(None, 8))
    with pytest.raises(Unsupported) as caught:
        insert(graph.graph_def, ranges(graph))
    assert "there is none (2 other products)" in str(caught.value)
    assert str(caught.value).endswith("use the backend tensorrt or onnxruntime for int8")


def test_one_tensor_that_two_convolutions_read_is_quantized_once() -> None:
    graph = Graph(lambda x: convolution(x) - convolution(x, tf.constant(KERNEL * 2)), SPEC)
    made, low = insert(graph.graph_def, ranges(graph))
    assert (len(low.nodes), len([node for node in made.node if is_ours(node)])) == (2, 3)
    graph.run(IMAGES, graph_def=made)


@pytest.mark.parametrize("dtype", [tf.float16, tf.float64])
def test_a_convolution_of_another_type_is_refused_with_a_reason(dtype: tf.DType, tmp_path: Path) -> None:
    """Ranges and Q/DQ are of float32; around anything else TensorFlow could not even import the graph."""
    function = signature(one_convolution(tmp_path / "model", dtype))
    with pytest.raises(Unsupported):
        convert(function, "int8", "p", keep_variables=False, ranges=SignatureRanges(ranges={}, extents={}))


def test_a_default_takes_the_place_of_an_input_that_the_samples_lack(tmp_path: Path) -> None:
    """Samples may leave out what the signature has a default for, and calibration still feeds it."""
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, "scale")
    model = save(tmp_path / "model", module, serving_default=(
        lambda x, scale: {"y": tf.nn.relu(convolution(x)) * scale[:, None, None, None]}, [SPEC, spec]))
    with_default(model, "scale", 2.0)
    artifact, _ = converted(model, tmp_path / "made", "int8", {"x": IMAGES})
    assert artifact.description["serving_default"]["convolutions in int8"] == 1


def with_default(model: Path, name: str, value: float) -> None:
    """Declare a default for an input, as exporters for TensorFlow Serving do."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    proto = tf.make_tensor_proto([value], tf.float32)
    parsed.meta_graphs[0].signature_def["serving_default"].defaults[name].CopyFrom(proto)
    (model / "saved_model.pb").write_bytes(parsed.SerializeToString())


def test_int8_without_samples_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"int8 needs calibration samples: set samples\.calibration"):
        converted(one_convolution(tmp_path / "model"), tmp_path / "made", "int8")


def test_the_suffix_tells_our_quantizers_from_the_model_s() -> None:
    node = tf.compat.v1.NodeDef(name="x/int8", op="QuantizeAndDequantizeV2")
    assert quantize.is_ours(node)
    assert not quantize.is_ours(tf.compat.v1.NodeDef(name="x/quantized", op="QuantizeAndDequantizeV2"))
    assert not quantize.is_ours(tf.compat.v1.NodeDef(name="x/int8", op="Identity"))
