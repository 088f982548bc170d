"""Calibration of tiny SavedModels: what is measured, that it is what one pass over all data at once would see,
and that neither jobs nor an interruption show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conversion.tftrt.builders import floats, numbers, save, variable
from trt_pipeline.calibration import calibrate as calibration
from trt_pipeline.calibration import ranges
from trt_pipeline.calibration.calibrate import calibrate, measure
from trt_pipeline.calibration.histogram import Histogram
from trt_pipeline.calibration.ranges import RangesFile
from trt_pipeline.calibration.taps import Tapped
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.errors import InputError, OutputError, SamplesError
from trt_pipeline.model import saved_model
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

IMAGES = numbers(9, 8, 8, 3, seed=1)


class Net(tf.Module):
    """Two convolutions, the first with a batch norm, a sum, a swish and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = [variable(3, 3, 3, 4, seed=2), variable(3, 3, 4, 4, seed=3)]
        self.statistics = [tf.Variable(tf.ones(4) * value) for value in (1.5, 0.1, 0.2, 0.7)]
        self.dense = variable(4, 5, seed=4)

    def call(self, x: Any) -> dict[str, Any]:
        y = tf.nn.conv2d(x, self.kernels[0], 1, "SAME")
        y = tf.nn.relu(tf.compat.v1.nn.fused_batch_norm(y, *self.statistics, is_training=False)[0])
        z = tf.nn.conv2d(y, self.kernels[1], 1, "SAME", name="second")
        z = tf.add(z, y, name="sum")
        z = tf.multiply(z, tf.sigmoid(z), name="swish")
        return {"scores": tf.matmul(tf.reduce_mean(z, [1, 2]), self.dense)}


class Loop(tf.Module):
    """A matrix product in a loop that runs as often as the first number of x says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.last = variable(4, 4, seed=5), variable(4, 2, seed=6)

    def call(self, x: Any) -> dict[str, Any]:
        times = tf.cast(x[0, 0], tf.int32)
        found = tf.while_loop(lambda i, h: i < times,
                              lambda i, h: (i + 1, tf.tanh(tf.matmul(h, self.weight, name="inner"))), [0, x])[1]
        return {"y": tf.matmul(found, self.last, name="outer")}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Net()
    return save(tmp_path_factory.mktemp("net") / "1", made, serving_default=(made.call, [floats(None, 8, 8, 3)]))


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Loop()
    return save(tmp_path_factory.mktemp("loop") / "1", made, serving_default=(made.call, [floats(None, 4)]))


Calibrate = Callable[..., RangesFile]


@pytest.fixture
def calibrated(tmp_path: Path) -> Calibrate:
    """Calibrate the one signature of a model on an array x."""
    def call(model: Path, x: np.ndarray, samples_digest: str = "s", **settings: Any) -> RangesFile:
        return calibrate(model, saved_model.read_contract(model), {"serving_default": samples(tmp_path, x)},
                         ["serving_default"], model_digest="m", samples_digest=samples_digest, **settings)

    return call


def samples(folder: Path, x: np.ndarray) -> Samples:
    store.write({"x": x}, folder / "samples")
    return Samples(folder / "samples")


def measured(model: Path, folder: Path, x: np.ndarray, **settings: Any) -> dict[str, Any]:
    found, _ = measure(model, saved_model.read_contract(model), {"serving_default": samples(folder, x)},
                       ["serving_default"], **settings)
    return found["serving_default"].tensors


def test_it_equals_one_shot_calibration(net: Path, tmp_path: Path) -> None:
    """All values of each tensor kept, and looked at once."""
    found = measured(net, tmp_path, IMAGES)
    loaded = tf.saved_model.load(str(net))
    graph = canonical(loaded.signatures["serving_default"])
    kept: dict[str, list[np.ndarray]] = {name: [] for name in found}
    tapped = Tapped(graph, {name: (lambda value, name=name: kept[name].append(value.copy())) for name in found})
    for image in IMAGES:
        tapped({"x": image[None]})
    for name, one in found.items():
        whole = np.concatenate([value.ravel() for value in kept[name]])
        assert (one.low, one.high, one.count) == (float(whole.min()), float(whole.max()), whole.size), name
        if isinstance(one, Histogram):
            expected = Histogram()
            expected.add(np.random.default_rng(0).permutation(whole))
            assert one == expected, name
    assert sum(isinstance(one, Histogram) for one in found.values()) >= 6


def test_what_is_quantized_has_a_range(net: Path, calibrated: Calibrate) -> None:
    made = calibrated(net, IMAGES)
    one = made.signatures["serving_default"]
    assert (made.method, made.count, made.model_digest, made.skipped) == ("minmax", 9, "m", {})
    kernels = {name: bounds for name, bounds in one.ranges.items() if name not in one.extents}
    for kernel in (*Net().kernels, Net().dense):
        expected = (float(tf.reduce_min(kernel)), float(tf.reduce_max(kernel)))
        assert expected in kernels.values(), "as TF-TRT sees it: before the batch norm is folded"
    folded = next(bounds for name, bounds in kernels.items() if "folded_weight" in name)
    assert len(kernels) == 4 and folded not in [kernels[name] for name in kernels if "folded" not in name]
    ends = [name.rpartition(":")[0].rpartition("/")[2] for name in one.ranges if name in one.extents]
    assert one.ranges.items() - kernels.items() <= one.extents.items()
    # x, the ReLU, the second convolution (its sum is read by two), the sum, the swish, and the mean.
    for operation in ("x", "Relu", "second", "sum", "swish", "Mean"):
        assert any(operation in end for end in ends), operation
    # The first convolution is one with its BiasAdd, and that with its ReLU.
    only = {name for name in one.extents if name not in one.ranges}
    assert any("Conv2D" in name for name in only) and any("BatchNorm" in name for name in only)
    assert any("Sigmoid" in name for name in only)
    for shown in made.histograms:
        assert (shown.low, shown.high) == one.extents[shown.tensor] and shown.range == one.ranges[shown.tensor]
        assert len(shown.counts) == 48 and shown.clipped == 0
    assert len(made.histograms) == sum(name in one.extents for name in one.ranges)


def test_tensors_in_a_loop_are_measured_and_what_never_ran_is_not(loop: Path, calibrated: Calibrate) -> None:
    x = numbers(4, 4, seed=7)
    x[:, 0] = [0, 3, 1, 2]
    one = calibrated(loop, x).signatures["serving_default"]
    weight = Loop().weight.numpy()
    states, products = [], []
    for row in x:
        state = row[None]
        for _ in range(int(row[0])):
            states.append(state)
            products.append(state @ weight)
            state = np.tanh(products[-1])
    inner = next(bounds for name, bounds in one.extents.items() if ".body/" in name and "inner" in name)
    np.testing.assert_allclose(inner, (np.min(products), np.max(products)), rtol=1e-5)
    entering = [bounds for name, bounds in one.ranges.items() if ".body/" in name and name in one.extents]
    assert entering == [(float(np.min(states)), float(np.max(states)))] or np.allclose(
        entering, [(np.min(states), np.max(states))], rtol=1e-5)
    x[:, 0] = 0
    never = calibrated(loop, x).signatures["serving_default"]
    assert not [name for name in never.extents if ".body/" in name and "inner" in name]
    # What the product after the loop reads is what the loop returned, whether it ran or not.
    outer = [bounds for name, bounds in never.ranges.items() if name not in never.extents or ".body/" not in name]
    assert (float(x.min()), float(x.max())) in outer


def test_jobs_do_not_show(net: Path, loop: Path, tmp_path: Path) -> None:
    assert measured(net, tmp_path, IMAGES, jobs=1) == measured(net, tmp_path, IMAGES, jobs=3)
    x = np.abs(numbers(8, 4, seed=8)) + 2
    assert measured(loop, tmp_path, x, jobs=1) == measured(loop, tmp_path, x, jobs=2)


def test_order_does_not_show(net: Path, tmp_path: Path) -> None:
    assert measured(net, tmp_path, IMAGES) == measured(net, tmp_path, IMAGES[::-1])
    assert measured(net, tmp_path, IMAGES) != measured(net, tmp_path, IMAGES[:-1])


class Stopped(Exception):
    """As a kill would, between two samples."""


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_calibration_goes_on_where_it_stood(
        net: Path, tmp_path: Path, calibrated: Calibrate, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    monkeypatch.setattr(calibration, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    expected = calibrated(net, IMAGES)
    checkpoint = tmp_path / "kept" / "calibration.npz"
    fed: list[int] = []
    count = calibration._Counting._count
    monkeypatch.setattr(calibration._Counting, "_count", lambda self, number: (fed.append(number),
                                                                               count(self, number))[1])

    def stop(done: int, total: int) -> None:
        if done >= 6:
            raise Stopped

    with pytest.raises(Stopped):
        calibrated(net, IMAGES, checkpoint=checkpoint, jobs=jobs, progress=stop)
    assert [file.name for file in checkpoint.parent.iterdir()] == ["calibration.npz"]
    content = checkpoint.read_bytes()
    fed.clear()
    assert calibrated(net, IMAGES, checkpoint=checkpoint, jobs=jobs) == expected
    assert fed and min(fed) >= 4 and sorted(fed)[-1] == 8, "it began where the last checkpoint was"
    assert not checkpoint.exists(), "removed at the end"
    # One of other samples, and a damaged one, are none.
    for settings, kept in (({"samples_digest": "other"}, content), ({"most": 8}, content), ({}, content[:3000])):
        checkpoint.write_bytes(kept)
        fed.clear()
        again = calibrated(net, IMAGES, checkpoint=checkpoint, jobs=jobs, **settings)
        assert min(fed) == 0
        assert again.signatures == expected.signatures or "most" in settings


def test_a_checkpoint_that_cannot_be_written_is_told(
        net: Path, tmp_path: Path, calibrated: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="checkpoint"):
        calibrated(net, IMAGES, checkpoint=tmp_path / "file" / "calibration.npz")


def test_the_last_sample_an_outlier(net: Path, calibrated: Calibrate) -> None:
    """It is in the range under minmax, and takes nothing from the others elsewhere."""
    usual = numbers(120, 8, 8, 3, seed=9)
    odd = usual.copy()
    odd[-1, 0, 0, 0] = -2e4
    bounds = {}
    for method in ("minmax", "percentile", "entropy"):
        bounds[method], clean = (next(bounds for name, bounds in calibrated(net, x, method=method)
                                      .signatures["serving_default"].ranges.items() if name.endswith("x:0"))
                                 for x in (odd, usual))
        if method != "minmax":
            np.testing.assert_allclose(bounds[method], clean, rtol=0.2)
    assert bounds["minmax"] == (-2e4, float(usual.max()))


def test_one_sample_is_enough(net: Path, calibrated: Calibrate) -> None:
    for method in ("minmax", "percentile", "entropy", "mse"):
        made = calibrated(net, IMAGES[:1], method=method)
        one = made.signatures["serving_default"]
        assert made.count == 1
        for name, (low, high) in one.ranges.items():
            assert one.extents.get(name, (low, high))[0] <= low <= high <= one.extents.get(name, (low, high))[1]
    assert made.method == "mse"


def test_no_more_samples_than_asked_for(net: Path, calibrated: Calibrate) -> None:
    made = calibrated(net, IMAGES, most=2)
    assert made.count == 2
    assert made.signatures == calibrated(net, IMAGES[:2]).signatures


def test_the_percentile_is_told(net: Path, calibrated: Calibrate) -> None:
    assert calibrated(net, IMAGES[:2], method="percentile", percentile=99.5).method == "percentile 99.5"


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("bad", [np.inf, np.float32(3e38)])
def test_infinity_names_the_sample_and_the_tensor(net: Path, calibrated: Calibrate, bad: float, jobs: int) -> None:
    x = IMAGES.copy()
    x[4, 0, 0, 0] = bad
    x[5, 1] = bad
    with pytest.raises(InputError, match=r"signature serving_default: sample 4: \S+ holds NaN or infinity") as told:
        calibrated(net, x, jobs=jobs)
    assert "\n" not in str(told.value)


def test_infinity_where_nothing_is_quantized_is_no_error(tmp_path: Path, calibrated: Calibrate) -> None:
    weight = tf.constant(numbers(4, 4))

    def attend(x: Any) -> dict[str, Any]:
        scores = tf.where(x > 0, x @ weight, -np.inf * tf.ones_like(x))
        return {"y": tf.nn.softmax(scores) @ weight}

    model = save(tmp_path / "1", tf.Module(), serving_default=(attend, [floats(None, 4)]))
    x = np.abs(numbers(3, 4)) * np.array([1, 1, -1, 1], np.float32)
    one = calibrated(model, x).signatures["serving_default"]
    assert np.isfinite([bounds for bounds in (*one.extents.values(), *one.ranges.values())]).all()


def test_signatures_that_cannot_be_measured_are_told(net: Path, tmp_path: Path) -> None:
    class Counter(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.weight = tf.Variable(0.0), variable(4, 4)

        def change(self, x: Any) -> dict[str, Any]:
            return {"y": x + self.calls.assign_add(1.0)}

        def multiply(self, x: Any) -> dict[str, Any]:
            return {"y": x @ self.weight}

    made = Counter()
    model = save(tmp_path / "1", made, a=(made.change, [floats(None, 4)]), b=(made.multiply, [floats(None, 4)]),
                 c=(made.multiply, [floats(None, 4)]))
    contract, given = saved_model.read_contract(model), samples(tmp_path, numbers(2, 4))
    settings: dict[str, Any] = {"model_digest": "m", "samples_digest": "s"}
    progress: list[tuple[int, int]] = []
    found = calibrate(model, contract, {"a": given, "b": given}, ["a", "b", "c"], **settings,
                      progress=lambda done, total: progress.append((done, total)))
    assert list(found.signatures) == ["b"]
    assert "changes variables" in found.skipped["a"] and "no samples" in found.skipped["c"]
    assert progress[-1] == (4, 4) and progress == sorted(progress)
    with pytest.raises(InputError, match="a: it changes variables"):
        calibrate(model, contract, {"a": given}, ["a"], **settings)
    with pytest.raises(SamplesError, match="no samples for a, b"):
        calibrate(model, contract, {}, ["a", "b"], **settings)
    file = tmp_path / "ranges.json"
    ranges.write(file, found)
    assert ranges.read(file, "m") == found
    with pytest.raises(InputError, match="changes variables"):
        found.signature("a", file)


def test_a_model_that_fails_on_a_sample_is_told(tmp_path: Path, calibrated: Calibrate) -> None:
    table = tf.constant(numbers(4, 4))

    def look_up(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0)]):
            return {"y": tf.identity(x) @ table}

    model = save(tmp_path / "1", tf.Module(), serving_default=(look_up, [floats(None, 4)]))
    x = numbers(3, 4)
    x[1] = 1000
    with pytest.raises(SamplesError, match="serving_default: sample 1: the model fails"):
        calibrated(model, x, jobs=1)
