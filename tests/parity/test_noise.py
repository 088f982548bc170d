"""The original's own noise, measured on a SavedModel small enough to know what it has to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trt_pipeline.model import saved_model
from trt_pipeline.parity import reference
from trt_pipeline.parity.cases import Case
from trt_pipeline.parity.noise import NoiseFloor, measure
from trt_pipeline.parity.reference import Reference
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

Save = Callable[[Any], Path]
X = np.array([[1.0, 2.0, 3.0], [0.1, 0.2, 0.3]], np.float32)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def call(function: Any) -> Path:
        module = tf.Module()
        module.call = tf.function(function, input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.call)
        return tmp_path / "model"

    return call


def refer(model: Path, folder: Path) -> Reference:
    store.write({"x": X}, folder / "samples")
    contract, samples = saved_model.read_contract(model), {"serving_default": Samples(folder / "samples")}
    cases = [Case(signature="serving_default", group="samples", rows=(0, 1))]
    made = reference.make(model, contract, cases, samples, folder / "outputs", lambda done, total: None)
    return made.with_noise(
        reference.measure_noise(model, contract, made, samples, folder / "outputs", lambda done, total: None))


def test_the_floor_is_the_largest_of_what_was_measured() -> None:
    assert NoiseFloor(repeat=0.0, threads=3e-7, float64=1e-7).floor == 3e-7
    assert NoiseFloor(repeat=1e-9, without="no float64 run: reason").floor == 1e-9
    assert NoiseFloor().floor == 0.0


def test_the_rounding_of_float32_is_measured(save: Save, tmp_path: Path) -> None:
    """1 + 1e-9 is 1 in float32: the noise is that 1e-9, as a share of the largest output, 3."""
    known = refer(save(lambda x: {"y": x + 1e-9, "n": tf.shape(x)}), tmp_path).outputs["serving_default"]
    assert known["y"].scale == 3.0
    assert (known["y"].noise.repeat, known["y"].noise.threads) == (0.0, 0.0)
    # 0.1 + 1e-9 rounds too: by at most half a step of float32 at 0.3, 1.5e-8.
    assert known["y"].noise.float64 == pytest.approx(1e-9 / 3, rel=20)
    assert known["y"].noise.float64 > 0
    assert known["y"].noise.floor == known["y"].noise.float64


def test_only_floats_have_noise(save: Save, tmp_path: Path) -> None:
    known = refer(save(lambda x: {"n": tf.shape(x)}), tmp_path).outputs["serving_default"]
    assert known["n"].noise == NoiseFloor()


def test_a_model_that_rolls_dice_shows_it_in_the_repeated_run(save: Save, tmp_path: Path) -> None:
    """Seeded, so that the first run after each loading says the same."""
    rolled = save(lambda x: {"y": x + tf.random.uniform(tf.shape(x), seed=5)})
    known = refer(rolled, tmp_path).outputs["serving_default"]
    assert known["y"].noise.repeat is not None
    assert known["y"].noise.repeat > 0.01


def test_where_there_is_no_float64_kernel_the_other_measurements_stand(save: Save, tmp_path: Path) -> None:
    """Quantization has float32 kernels only."""

    def rounded(x: Any) -> Any:
        return {"y": tf.quantization.dequantize(tf.quantization.quantize(x, 0.0, 4.0, tf.quint8)[0], 0.0, 4.0)}

    noise = refer(save(rounded), tmp_path).outputs["serving_default"]["y"].noise
    assert (noise.repeat, noise.threads, noise.float64) == (0.0, 0.0, None)
    assert noise.without.startswith("no float64 run: ")
    assert "\n" not in noise.without


def test_a_table_is_a_reason_too(save: Save, tmp_path: Path) -> None:
    module = tf.Module()
    keys = tf.constant(["a"])
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, tf.constant([2.5])), 0.0)
    module.call = tf.function(lambda names: {"y": module.table.lookup(names)},
                              input_signature=[tf.TensorSpec([None], tf.string, "names")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.call)
    function = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    feeds, outputs = {"names": np.array([b"a", b"b"], object)}, {"y": np.array([2.5, 0.0], np.float32)}
    noise = measure(tmp_path / "model", ("serve",), "serving_default", function, [(feeds, outputs)], {"y": 2.5},
                    lambda given: outputs)["y"]
    assert noise == NoiseFloor(repeat=0.0, threads=0.0, without="no float64 run: it uses look-up tables")


def test_floats_count_for_nothing_where_a_decision_flipped(save: Save) -> None:
    """Another token changes the score by more than noise, so that case says nothing of the noise."""
    model = save(lambda x: {"token": tf.argmax(x, 1), "score": tf.reduce_max(x, 1)})
    function = tf.saved_model.load(str(model)).signatures["serving_default"]
    outputs = {"token": np.array([2, 2]), "score": np.array([3.0, 0.3], np.float32)}

    def flipped(feeds: dict[str, Any]) -> dict[str, Any]:
        return {"token": np.array([2, 1]), "score": np.array([3.0, 0.2], np.float32)}

    noise = measure(model, ("serve",), "serving_default", function, [({"x": X}, outputs)], {"score": 3.0}, flipped)
    assert noise["score"].repeat is None
    assert noise["score"].threads == 0.0


def test_an_output_of_zeros_has_no_noise_and_does_not_divide_by_zero(save: Save, tmp_path: Path) -> None:
    known = refer(save(lambda x: {"y": 0.0 * x}), tmp_path).outputs["serving_default"]["y"]
    assert (known.scale, known.noise.floor) == (0.0, 0.0)


def test_nan_and_infinity_leave_the_scale_and_the_noise_finite(save: Save, tmp_path: Path) -> None:
    known = refer(save(lambda x: {"y": tf.math.log(x - 1.0)}), tmp_path).outputs["serving_default"]["y"]
    assert known.scale == pytest.approx(np.log(2))
    assert np.isfinite(known.noise.floor)
