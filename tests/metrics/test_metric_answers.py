"""Outputs on the samples are written while a candidate is judged, and read in the samples' order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.builders import FunctionRunner, World
from trt_pipeline.backends.base import Artifact, Runner, StandIn
from trt_pipeline.backends.onnxruntime import OnnxRuntime
from trt_pipeline.metrics import answers
from trt_pipeline.model.contract import Contract, SignatureContract, TensorContract
from trt_pipeline.parity.cases import REAL_SAMPLES, Case, cases
from trt_pipeline.parity.estimate import judge_stand_ins
from trt_pipeline.parity.judge import judge
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples


def two(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"a": x * 2, "b": (x * 2).sum(axis=1)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, two)


def test_a_judged_candidate_leaves_its_answers_to_the_samples_and_no_corner(world: World, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with answers.Recorded(FunctionRunner(world.contract, two), world.reference.cases, kept) as runner:
        verdict = judge(runner, world.reference, world.folder, {"serve": world.samples}, Gate(), "fp32")
    assert verdict.passed
    assert verdict == world.judge(two), "it is judged as it is without"
    real = {str(n) for n, case in enumerate(world.reference.cases) if case.group == REAL_SAMPLES}
    assert {folder.name for folder in kept.iterdir()} == real
    assert len(real) < len(world.reference.cases)
    assert answers.complete(kept, world.reference.cases, "serve")
    for folder in (kept, world.folder):  # the original's outputs lie in the same way
        found = answers.read(folder, world.reference.cases, "serve")
        np.testing.assert_array_equal(found["a"], world.x * 2)
        np.testing.assert_allclose(found["b"], (world.x * 2).sum(axis=1))


def test_a_candidate_that_breaks_on_the_way_is_not_complete(world: World, tmp_path: Path) -> None:
    def breaks(x: np.ndarray) -> dict[str, np.ndarray]:
        if np.array_equal(x[-1], world.x[-1]) and len(x) == 5:
            raise ValueError("out of memory")
        return two(x)

    with answers.Recorded(FunctionRunner(world.contract, breaks), world.reference.cases, tmp_path / "kept") as runner:
        verdict = judge(runner, world.reference, world.folder, {"serve": world.samples}, Gate(), "fp32")
    assert "out of memory" in verdict.reason
    assert (tmp_path / "kept").is_dir()
    assert not answers.complete(tmp_path / "kept", world.reference.cases, "serve")


def test_samples_of_a_fixed_batch_come_once_each(tmp_path: Path) -> None:
    store.write({"x": np.arange(10, dtype=np.float32)[:, None]}, tmp_path / "samples")
    tensor = TensorContract(dtype="float32", shape=(4, 1))
    signature = SignatureContract(name="serve", method_name="predict", inputs={"x": tensor}, outputs={"y": tensor})
    samples = Samples(tmp_path / "samples")
    planned = cases(signature, samples, batch_size=8, max_batch_size=8)
    assert planned[-1].rows == (8, 9, 0, 1)
    for number, case in enumerate(planned):
        store.write({"y": samples.take(case.rows)["x"] + 1}, tmp_path / str(number))
    np.testing.assert_array_equal(answers.read(tmp_path, planned, "serve")["y"][:, 0], np.arange(10) + 1)


def test_fewer_samples_than_a_fixed_batch_come_once_each_too(tmp_path: Path) -> None:
    store.write({"x": np.arange(3, dtype=np.float32)[:, None]}, tmp_path / "samples")
    tensor = TensorContract(dtype="float32", shape=(8, 1))
    signature = SignatureContract(name="serve", method_name="predict", inputs={"x": tensor}, outputs={"y": tensor})
    samples = Samples(tmp_path / "samples")
    one, = cases(signature, samples, batch_size=8, max_batch_size=8)
    assert one.rows == (0, 1, 2, 0, 1, 2, 0, 1)
    store.write({"y": samples.take(one.rows)["x"] + 1}, tmp_path / "0")
    assert answers.read(tmp_path, [one], "serve")["y"][:, 0].tolist() == [1, 2, 3]


def batches(folder: Path, *outputs: dict[str, np.ndarray]) -> list[Case]:
    """Two samples in each batch."""
    for number, found in enumerate(outputs):
        store.write(found, folder / str(number))
    return [Case(signature="serve", group=REAL_SAMPLES, rows=(2 * n, 2 * n + 1)) for n in range(len(outputs))]


def test_batches_of_other_widths_are_neither_padded_nor_cut(tmp_path: Path) -> None:
    planned = batches(tmp_path, {"ids": np.array([[1, 2, 3], [4, 0, 0]])}, {"ids": np.array([[5, 6], [7, 0]])})
    found = answers.read(tmp_path, planned, "serve")["ids"]
    assert found.dtype == object
    assert [row.tolist() for row in found] == [[1, 2, 3], [4, 0, 0], [5, 6], [7, 0]]


def test_strings_stay_bytes_and_ragged_strings_too(tmp_path: Path) -> None:
    planned = batches(tmp_path, {"s": np.array([b"a", b"b\0"], object), "r": np.array([[b"x"], [b"y"]], object)},
                      {"s": np.array([b"", b"c"], object), "r": np.array([[b"z", b""], [b"", b"w"]], object)})
    found = answers.read(tmp_path, planned, "serve")
    assert found["s"].tolist() == [b"a", b"b\0", b"", b"c"]
    assert [row.tolist() for row in found["r"]] == [[b"x"], [b"y"], [b"z", b""], [b"", b"w"]]


def test_an_output_without_a_row_a_sample_comes_by_batch(tmp_path: Path) -> None:
    planned = batches(tmp_path, {"n": np.float32(2), "y": np.zeros(2)}, {"n": np.float32(3), "y": np.ones(2)})
    found = answers.read(tmp_path, planned, "serve")
    assert [float(part) for part in found["n"]] == [2, 3]
    assert found["y"].tolist() == [0, 0, 1, 1]
    assert float(answers.read(tmp_path, planned[:1], "serve")["n"]) == 2


class Elsewhere(OnnxRuntime):
    """A backend of candidates that only run elsewhere; here, halves stand in for them."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self._wrong = wrong

    def stand_ins(self, artifact: Artifact, precision: str) -> frozenset[StandIn]:
        return frozenset({"surgery", "estimate"} if precision == "fp16" else {"surgery"})

    def stand_in(self, artifact: Artifact, folder: Path, contract: Contract, kind: StandIn) -> Runner:
        def answer(x: np.ndarray) -> dict[str, np.ndarray]:
            return two(x.astype(np.float16 if kind == "estimate" else np.float32) + self._wrong)

        return FunctionRunner(contract, answer)


@pytest.mark.parametrize(("precision", "wrong", "dtype"), [
    ("fp16", "", np.float16), ("fp32", "", np.float32), ("fp16", "the graph is another", None)])
def test_what_stands_in_for_a_candidate_answers_in_its_precision(
        world: World, tmp_path: Path, precision: str, wrong: str, dtype: Any) -> None:
    verdict = judge_stand_ins(
        Elsewhere(bool(wrong)), Artifact(kind="onnx", files={}), tmp_path, world.contract, world.reference,
        world.folder, {"serve": world.samples}, Gate(), precision, "no GPU",
        recording=lambda runner: answers.Recorded(runner, world.reference.cases, tmp_path / "kept"))
    assert verdict.estimate
    assert verdict.estimate.surgery
    assert verdict.estimate.surgery.passed == (not wrong)
    assert answers.complete(tmp_path / "kept", world.reference.cases, "serve") == (dtype is not None)
    if dtype:
        assert answers.read(tmp_path / "kept", world.reference.cases, "serve")["a"].dtype == dtype
