"""What stands in for an engine answers as the original does, rounds as FP16 does, and tells how large numbers get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.conversion.tftrt.builders import (
    Array,
    answers,
    converted,
    floats,
    graph_of,
    nodes,
    numbers,
    save,
    signature,
    standing_in,
    variable,
)
from trt_pipeline.conversion.tftrt import stand_in
from trt_pipeline.conversion.tftrt.segment import engines

DEMO = ROOT / "models/demo/1"
IMAGES = np.load(ROOT / "calibration_data/demo_validation.npz")["image"][:4]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions, tf.Example parsing and tables, at fp16."""
    return converted(DEMO, tmp_path_factory.mktemp("demo") / "made", "fp16")[1]


def example(image: Array) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
    features = tf.train.Features(feature={"image": feature})
    return tf.train.Example(features=features).SerializeToString()


FEEDS: dict[str, dict[str, Any]] = {"serving_default": {"image": IMAGES},
                                    "classify": {"inputs": [example(image) for image in IMAGES]},
                                    "lookup": {"names": [b"three", b"nothing"]}}


@pytest.mark.parametrize("name", FEEDS)
def test_the_surgery_answers_as_the_original(name: str, demo: Path) -> None:
    expected, got = answers(DEMO, name, **FEEDS[name]), standing_in(demo, "surgery", name, **FEEDS[name])
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(got[key], value, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(got[key], value)


def test_the_estimate_is_near_and_not_the_same(demo: Path) -> None:
    expected = answers(DEMO, image=IMAGES)["logits"]
    got = standing_in(demo, "estimate", image=IMAGES)["logits"]
    assert 0 < np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()


def test_a_stand_in_holds_no_engine_and_borrows_the_files(demo: Path, tmp_path: Path) -> None:
    assert engines(graph_of(demo))
    target = tmp_path / "deep" / "stand-in"
    stand_in.write(demo, target, "surgery")
    assert not engines(graph_of(target))
    assert (target / "assets").is_symlink()
    assert (target / "assets").resolve() == (demo / "assets").resolve()


def test_several_stand_ins_of_one_model_live_in_one_process(demo: Path, tmp_path: Path) -> None:
    kinds: tuple[stand_in.Kind, ...] = ("surgery", "estimate", "surgery", "estimate")
    loaded = []
    for number, kind in enumerate(kinds):
        stand_in.write(demo, tmp_path / str(number), kind)
        loaded.append(signature(tmp_path / str(number)))
    got = [function(image=tf.constant(IMAGES))["logits"].numpy() for function in loaded]
    np.testing.assert_array_equal(got[0], got[2])
    np.testing.assert_array_equal(got[1], got[3])
    assert not np.array_equal(got[0], got[1])


# --- The arithmetic of FP16 ---

FACTOR, SUMMAND = np.float32(1.1), np.float32(0.7)


def chain(x: Any) -> dict[str, Any]:
    return {"y": tf.nn.relu(x * FACTOR + SUMMAND)}


def half(values: Any) -> Array:
    """To 11 bits and back, saturating."""
    return np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """y = relu(1.1 x + 0.7), converted at two precisions."""
    folder = tmp_path_factory.mktemp("chain")
    model = save(folder / "model", tf.Module(), serving_default=(chain, [floats(None, 8)]))
    return {precision: converted(model, folder / precision, precision)[1] for precision in ("fp32", "fp16")}


def test_every_tensor_is_rounded_to_half_and_nothing_else_happens(chained: dict[str, Path]) -> None:
    x = numbers(64, 8, seed=7)
    expected = np.maximum(half(half(half(x) * half(FACTOR)) + half(SUMMAND)), 0)
    np.testing.assert_array_equal(standing_in(chained["fp16"], "estimate", x=x)["y"], expected)
    exact = np.maximum(x * FACTOR + SUMMAND, 0)
    assert 1e-4 < np.abs(expected - exact).max() < 4e-3, "11 bits of numbers up to 4"


def test_what_half_cannot_hold_saturates(chained: dict[str, Path]) -> None:
    x = np.array([[6e4, 1e5, 3e38, -1e9, 1e-9, 0, 65504, 59500]], np.float32)
    got = standing_in(chained["fp16"], "estimate", x=x)["y"]
    np.testing.assert_array_equal(got, np.maximum(half(half(half(x) * half(FACTOR)) + half(SUMMAND)), 0))
    assert got[0, :3].tolist() == [65504, 65504, 65504]


def test_at_fp32_the_estimate_is_the_surgery(chained: dict[str, Path]) -> None:
    x = np.array([[1 + 2**-20, 1e5, 1e30, -1, 2, 3, 4, 5]], np.float32)
    np.testing.assert_array_equal(standing_in(chained["fp32"], "estimate", x=x)["y"],
                                  standing_in(chained["fp32"], "surgery", x=x)["y"])


# --- In a loop ---


def rounds(x: Any, kernel: Any) -> Any:
    return tf.while_loop(lambda i, h: i < 4, lambda i, h: (i + 1, tf.nn.relu(h @ kernel) * 2.0), [0, x])[1]


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The original and what was made of it at fp16: a loop whose numbers grow with each round."""
    folder, module = tmp_path_factory.mktemp("loop"), tf.Module()
    module.kernel = variable(8, 8)
    model = save(folder / "model", module,
                 serving_default=(lambda x: {"y": rounds(x, module.kernel)}, [floats(None, 8)]))
    return model, converted(model, folder / "made", "fp16")[1]


def test_a_loop_s_body_stands_in_as_well(looped: tuple[Path, Path]) -> None:
    model, made = looped
    x = numbers(3, 8, seed=2)
    expected = answers(model, x=x)["y"]
    np.testing.assert_allclose(standing_in(made, "surgery", x=x)["y"], expected, rtol=1e-6, atol=1e-6)
    weight = half(numbers(8, 8, scale=0.3))
    state = x
    for _ in range(4):
        state = half(np.maximum(half(half(state) @ weight), 0) * 2)
    estimate = standing_in(made, "estimate", x=x)["y"]
    np.testing.assert_allclose(estimate, state, rtol=2e-3, atol=2e-3)
    assert np.abs(estimate - expected).max() > 0


# --- Magnitudes ---


def magnitudes(made: Path, folder: Path, *batches: Array) -> dict[str, float]:
    """What a stand-in writes down when it is fed ``batches``, after the proof that it answers in float32."""
    file = folder / "magnitudes.txt"
    stand_in.write(made, folder / "stand-in", "magnitudes", file)
    function = signature(folder / "stand-in")
    for x in batches:
        np.testing.assert_array_equal(function(x=tf.constant(x))["y"].numpy(), standing_in(made, "surgery", x=x)["y"])
    return stand_in.read_magnitudes(file)


def test_magnitudes_are_numpy_s_over_all_that_was_fed(chained: dict[str, Path], tmp_path: Path) -> None:
    batches = numbers(2, 8, seed=3), numbers(5, 8, seed=4) * 1e5, numbers(1, 8, seed=5)
    found = magnitudes(chained["fp16"], tmp_path, *batches)
    x = np.concatenate(batches)
    name = engines(graph_of(chained["fp16"]))[0].name
    shown = {next(key for key in found if key.startswith("input 0 of") and name in key): x,
             next(key for key in found if key.endswith("mul")): x * FACTOR,
             next(key for key in found if key.endswith("add")): x * FACTOR + SUMMAND}
    for key, values in shown.items():
        assert found[key] == pytest.approx(float(np.abs(values).max()), rel=1e-5), key
    constants = sorted(value for key, value in found.items() if key not in shown)
    assert constants == pytest.approx([0.7, 1.1]), "a weight may be too large as well; moved values are not repeated"


def test_magnitudes_of_every_round_of_a_loop_are_seen(looped: tuple[Path, Path], tmp_path: Path) -> None:
    x = numbers(3, 8, seed=2)
    found = magnitudes(looped[1], tmp_path, x)
    weight, state, largest = numbers(8, 8, scale=0.3), x, 0.0
    for _ in range(4):
        state = np.maximum(state @ weight, 0) * 2
        largest = max(largest, float(state.max()))
    product = next(key for key in found if key.endswith("/mul"))
    assert found[product] == pytest.approx(largest, rel=1e-4)


def test_an_engine_at_fp32_is_not_watched(chained: dict[str, Path], tmp_path: Path) -> None:
    assert magnitudes(chained["fp32"], tmp_path, numbers(2, 8)) == {}


def test_infinity_is_a_magnitude_and_an_empty_batch_is_none(chained: dict[str, Path], tmp_path: Path) -> None:
    found = magnitudes(chained["fp16"], tmp_path, np.array([[np.inf] * 8], np.float32), np.zeros((0, 8), np.float32))
    assert max(found.values()) == float("inf")
    assert min(found.values()) >= 0


def test_reading_keeps_the_largest_and_never_forgets_nan(tmp_path: Path) -> None:
    file = tmp_path / "magnitudes.txt"
    assert stand_in.read_magnitudes(file) == {}
    file.write_text("input 0 of x 1.5\na/b 3\na/b nan\na/b 7\ninput 0 of x 2.5\nc -inf\nd 0\n")
    found = stand_in.read_magnitudes(file)
    assert np.isnan(found.pop("a/b"))
    assert found == {"input 0 of x": 2.5, "d": 0.0}


def test_the_model_s_own_quantization_is_no_surgery(tmp_path: Path) -> None:
    """Q/DQ that the original has is left in the surgery's stand-in: only what we put in comes out."""
    kernel = numbers(3, 3, 2, 4)

    def quantized(values: Any, largest: float) -> Any:
        return tf.raw_ops.QuantizeAndDequantizeV2(input=values, input_min=-largest, input_max=largest,
                                                  range_given=True, round_mode="HALF_TO_EVEN")

    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(tf.nn.conv2d(quantized(x, 2.0), quantized(tf.constant(kernel), 3.0), 1, "SAME")) + 1.0}

    model = save(tmp_path / "model", tf.Module(), serving_default=(call, [floats(None, 5, 5, 2)]))
    _, made = converted(model, tmp_path / "made", "int8")
    assert {engine.attr["precision_mode"].s for engine in engines(graph_of(made))} == {b"INT8"}
    x = numbers(2, 5, 5, 2, seed=3)
    np.testing.assert_allclose(standing_in(made, "surgery", x=x)["y"], answers(model, x=x)["y"], rtol=1e-6)
    assert nodes(graph_of(made.with_name("model-surgery")), "QuantizeAndDequantizeV2")
