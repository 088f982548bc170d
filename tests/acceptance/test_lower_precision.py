"""Lower precision that keeps its gate: nets that are made to fail and the nodes found for it, one ranges file for all.

Everything here is converted, run and judged by the backends themselves, in a sweep that publishes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

import trt_pipeline as tp
from tests.islands.island_nets import Net, overflowing_net
from trt_pipeline import api
from trt_pipeline.backends import backend
from trt_pipeline.config.schema import Config
from trt_pipeline.conversion.onednn import availability as onednn
from trt_pipeline.conversion.onednn.products import SMALLEST
from trt_pipeline.conversion.tftrt import availability as tf_trt
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages import judging, worker
from trt_pipeline.stages.worker import Outcome

CULPRIT = "layer_4"
WIDTH = 192  # its products are large enough for TensorFlow to gain by int8
INT8 = ("onnxruntime/int8", *(() if onednn.why_not() else ("tensorflow/int8",)))


@pytest.fixture(scope="module")
def _only_some_are_timed() -> Any:
    """Timing starts two processes a candidate, which costs more than all else here: one candidate shows it."""
    timed = judging.Judging._time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging.Judging, "_time", lambda self, row: timed(self, row) if row.name == INT8[0] else None)
        yield


@pytest.fixture
def _here() -> Any:
    with _in_this_process():
        yield


@contextlib.contextmanager
def _in_this_process() -> Iterator[None]:
    """Jobs run here: a process for each takes longer than its work. The int8 sweep has real workers."""

    def call(function: Any, arguments: dict[str, Any], limits: Any, log: Path, progress: Any, python: Any) -> Outcome:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        return Outcome(value=function(**arguments, progress=progress), seconds=0, peak_memory_mb=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "run", call)
        yield


class Made:
    """A net with its samples, and sweeps of it that keep their stages from one to the next."""

    def __init__(self, net: Net, folder: Path, *candidates: str) -> None:
        self.net, self.folder, self.candidates = net, folder, candidates
        self.validation = np.random.default_rng(7).normal(size=net.x.shape).astype(np.float32)
        np.savez(folder / "validation.npz", x=self.validation)
        np.savez(folder / "calibration.npz", x=net.x)

    def sweep(self, **changes: Any) -> RunResult:
        values: dict[str, Any] = {
            "name": "net", "model": str(self.net.folder), "candidates": self.candidates, "max_batch_size": 8,
            "samples": {kind: str(self.folder / f"{kind}.npz") for kind in ("validation", "calibration")},
            "benchmark": {"batch_sizes": [1], "duration_s": 0.1}, "islands": {"evaluations": 24},
            "serving": str(self.folder / "serving")}
        # Which others there are to stop early for is part of what a timing is kept under.
        return tp.sweep(Config.model_validate(values | changes), output=self.folder / "artifacts", early_stopping=False)


def _of(result: RunResult, name: str) -> CandidateResult:
    return next(candidate for candidate in result.candidates if candidate.name == name)


# --- one layer that int8 ruins

@pytest.fixture(scope="module")
def outlier(tmp_path_factory: pytest.TempPathFactory, _only_some_are_timed: None) -> Made:
    """Eight layers; what the fifth one reads has a channel a thousand times as large as the others."""
    folder = tmp_path_factory.mktemp("outlier")
    random = np.random.default_rng(0)
    weights = [random.normal(size=(WIDTH, WIDTH)).astype(np.float32) * np.float32(np.sqrt(2 / WIDTH))
               for _ in range(8)]
    biases = [np.zeros(WIDTH, np.float32) for _ in range(8)]
    biases[3][0] = 5000
    weights[4][0] *= 1e-5
    assert weights[0].size >= SMALLEST

    def layers(x: tf.Tensor) -> tf.Tensor:
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = tf.nn.bias_add(tf.matmul(x, weight, name=f"layer_{number}"), bias)
            x = tf.nn.relu(x) if number < 7 else x
        return x

    return Made(Net(folder, layers, random.normal(size=(64, WIDTH)).astype(np.float32)), folder, *INT8)


@pytest.fixture(scope="module")
def saved(outlier: Made) -> RunResult:
    return outlier.sweep()


@pytest.mark.slow
@pytest.mark.parametrize("name", INT8)
def test_the_layer_that_int8_ruins_is_found_and_the_gate_passes(saved: RunResult, name: str) -> None:
    candidate = _of(saved, name)
    assert candidate.status == "ok", candidate.reason
    assert candidate.label == f"{name}+fp32"
    assert candidate.verdict and candidate.verdict.passed
    trade = candidate.islands
    assert trade and trade.before and not trade.before.passed
    assert trade.before.error and candidate.verdict.error and candidate.verdict.error < trade.before.error / 5
    one = trade.islands.signatures["serve"]
    assert any(CULPRIT in node for node in one.nodes) and len(one.nodes) <= 4
    assert one.passed and one.of == 8 and one.before > 1
    assert (one.curve[0].raised, one.curve[0].passed) == (0, False)
    assert len(one.curve) <= 24 and any(point.passed and point.raised == len(one.nodes) for point in one.curve)
    assert candidate.artifact
    low = candidate.artifact.low_precision["serve"]
    assert {node for node, why in low.kept.items() if why == "raised"} == set(one.nodes)
    assert len(low.nodes) >= 4, "the rest still is int8"
    assert not saved.publications


@pytest.mark.slow
def test_the_trade_has_the_speed_before_and_after(saved: RunResult) -> None:
    candidate = _of(saved, INT8[0])
    assert candidate.islands and candidate.islands.benchmark_before and candidate.benchmark
    report = Path(saved.folder, "report.html").read_text()
    assert f"{INT8[0]}+fp32" in report and CULPRIT in report


@pytest.mark.slow
def test_without_a_search_it_is_rejected(outlier: Made, saved: RunResult) -> None:
    result = outlier.sweep(islands={"evaluations": 0})
    for name in INT8:
        candidate = _of(result, name)
        assert candidate.status == "rejected" and "serve.y" in candidate.reason
        assert candidate.islands is None and candidate.label == name and candidate.low_share == 1


@pytest.mark.slow
def test_what_was_found_lies_in_the_run_and_pinned_needs_no_search(outlier: Made, saved: RunResult) -> None:
    files = {name: Path(saved.folder, "candidates", name.replace("/", "-"), "islands.yaml") for name in INT8}
    for name, file in files.items():
        known = _of(saved, name).islands
        assert known and yaml.safe_load(file.read_text())["signatures"]["serve"]["nodes"] == [
            *known.islands.signatures["serve"].nodes]
    result = outlier.sweep(islands={"evaluations": 24, "pinned": {name: str(file) for name, file in files.items()}})
    for name in INT8:
        before, after = _of(saved, name), _of(result, name)
        assert after.status == "ok" and after.label == before.label
        assert after.islands and before.islands and after.islands.islands.raised == before.islands.islands.raised
        assert after.verdict == before.verdict and after.artifact == before.artifact
        # It goes straight to what the search ended with.
        made = [cost.stage for cost in after.stages]
        assert made.count("convert") == 1 and not {"islands", "trials"}.intersection(made)
        assert all(cost.cached for cost in after.stages)


@pytest.mark.slow
def test_below_the_floor_the_name_says_how_much_is_int8(outlier: Made, saved: RunResult) -> None:
    result = outlier.sweep(precision_floor=0.9)
    for name in INT8:
        candidate = _of(result, name)
        share = candidate.low_share
        assert candidate.status == "ok" and share and 0.5 <= share < 0.9
        assert candidate.label == f"{name} ({share:.0%} int8)"


# --- numbers that fp16 cannot hold

# No net here is one that only a search saves at fp16: on a CPU the casts around float32 round nothing.

@pytest.fixture(scope="module")
def overflow(tmp_path_factory: pytest.TempPathFactory, _only_some_are_timed: None) -> tuple[Made, RunResult]:
    folder = tmp_path_factory.mktemp("overflow")
    made = Made(overflowing_net(folder), folder, "tensorflow/int8", "onnxruntime/fp16")
    with _in_this_process():
        return made, made.sweep()


def test_a_layer_normalization_of_large_values_keeps_its_gate_at_fp16(overflow: tuple[Made, RunResult]) -> None:
    made, result = overflow
    candidate = _of(result, "onnxruntime/fp16")
    assert candidate.status == "ok", candidate.reason
    assert candidate.verdict and candidate.verdict.passed and candidate.artifact
    low = candidate.artifact.low_precision["serve"]
    raised = candidate.islands.islands.raised.get("serve", ()) if candidate.islands else ()
    beyond = {name.removesuffix(":0") for name, extent in made.net.ranges.extents.items()
              if max(map(abs, extent)) > 65504}
    assert beyond and all("squares" in name or "variance" in name or "add" in name for name in beyond)
    assert beyond <= {*low.others, *raised}
    assert all("would overflow" in low.others[name] for name in beyond & low.others.keys())
    # Those that read what overflows may follow; the rest is in half precision.
    assert len({*low.others, *raised} - beyond) <= 3 and len(raised) <= 3
    assert len(low.nodes) == 2 and not low.kept


def test_int8_of_which_nothing_came_is_unsupported(overflow: tuple[Made, RunResult]) -> None:
    candidate = _of(overflow[1], "tensorflow/int8")
    assert candidate.status == "unsupported"
    assert onednn.why_not() or "small: 256 weights" in candidate.reason
    assert candidate.artifact is None and candidate.verdict is None


@pytest.mark.usefixtures("_here")
def test_int8_of_a_net_without_weights_is_unsupported(tmp_path: Path) -> None:
    net = Net(tmp_path, tf.tanh, np.ones((4, 3), np.float32))
    np.savez(tmp_path / "x.npz", x=net.x)
    with pytest.raises(Unsupported, match="no operation could be quantized: the graph has no convolution"):
        api.convert(net.folder, "onnxruntime", "int8", tmp_path / "int8", calibration=str(tmp_path / "x.npz"))


# --- one ranges file

def _convolutions(folder: Path) -> Net:
    random = np.random.default_rng(5)
    kernels = [random.normal(size=shape).astype(np.float32) * np.float32(np.sqrt(2 / np.prod(shape[:3])))
               for shape in ((3, 3, 3, 16), (3, 3, 16, 16), (3, 3, 16, 8))]
    strides = (1, 2, 1)

    def layers(x: tf.Tensor) -> tf.Tensor:
        for number, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, stride, "SAME", name=f"conv_{number}"))
        return tf.reduce_mean(x, [1, 2])

    return Net(folder, layers, random.normal(size=(16, 12, 12, 3)).astype(np.float32))


@pytest.mark.usefixtures("_here")
@pytest.mark.skipif(bool(tf_trt.examine().why_not_convert), reason="this TensorFlow has no TF-TRT")
def test_one_ranges_file_drives_two_backends_to_the_same_answers(tmp_path: Path) -> None:
    net = _convolutions(tmp_path)
    np.savez(tmp_path / "x.npz", x=net.x)
    ranges = tmp_path / "ranges.json"
    found = api.calibrate(net.folder, str(tmp_path / "x.npz"), ranges)
    assert found.count == len(net.x) and found.method == "minmax"
    made = {name: api.convert(net.folder, name, "int8", tmp_path / name, ranges=ranges)
            for name in ("onnxruntime", "tf-trt")}
    for name, candidate in made.items():
        assert (tmp_path / name / "ranges.json").read_bytes() == ranges.read_bytes()
        assert len(candidate.artifact.low_precision["serve"].nodes) == 3, name
    assert (made["onnxruntime"].artifact.low_precision["serve"].nodes
            == made["tf-trt"].artifact.low_precision["serve"].nodes), "both name nodes as the author did"

    contract = saved_model.read_contract(net.folder)
    with backend("onnxruntime").load(made["onnxruntime"].artifact, tmp_path / "onnxruntime", contract) as runner:
        one = runner.infer("serve", {"x": net.x})["y"]
    backend("tf-trt").write_stand_in(made["tf-trt"].artifact, tmp_path / "tf-trt", tmp_path / "estimate", "estimate")
    loaded = tf.saved_model.load(str(tmp_path / "estimate"))
    other = loaded.signatures["serve"](x=tf.constant(net.x))["y"].numpy()

    original = net.run()
    step = np.abs(original).max() / 127
    assert np.abs(one - other).max() <= step
    for answer in (one, other):
        error = np.abs(answer - original).max()
        assert 0.05 * step < error <= 3 * step, "quantized, and little of it"
