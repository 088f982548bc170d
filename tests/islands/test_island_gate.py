from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trt_pipeline.islands.gate import SearchGate, batches
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.parity.tolerance import Close, Gate, Match, OutputGate, TopK
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 10)).astype(np.float32)


def signature(dtype: str = "float32", batch: int | None = None) -> SignatureContract:
    shape = (batch, 10)
    return SignatureContract(name="serve", method_name="m", inputs={"x": TensorContract(dtype="float32", shape=shape)},
                             outputs={"y": TensorContract(dtype=dtype, shape=shape)})


def emulated(gate: Gate | None = None, precision: str = "int8", tokens: bool = False) -> SearchGate:
    kind = np.int64 if tokens else np.float32
    return SearchGate(signature(np.dtype(kind).name), gate or Gate(), precision, {}, [{"x": X[:20]}, {"x": X[20:]}],
                        lambda feeds: {"y": (feeds["x"] * (10 if tokens else 1)).astype(kind)})


def of(tolerance: object) -> Gate:
    return Gate(outputs={"y": OutputGate.model_validate(tolerance)})


def test_the_original_passes_at_no_distance() -> None:
    judged = emulated().judge(lambda feeds: {"y": feeds["x"]})
    assert judged.passed and judged.snr_db == {"y": 300.0} and judged.reason == ""
    assert judged.distance < 1e-12


def test_distance_is_the_largest_error_over_its_bound() -> None:
    bound = 0.1 * np.abs(X).max()
    for share, passes in ((0.5, True), (0.99, True), (1.5, False)):
        def run(feeds: dict[str, np.ndarray], share: float = share) -> dict[str, np.ndarray]:
            y = feeds["x"].copy()
            y[3, 2] += share * bound
            return {"y": y}
        judged = emulated(of(Close(scaled=0.1))).judge(run)
        assert judged.passed is passes and judged.distance == pytest.approx(share, rel=1e-4)
        assert judged.within(0.8).passed is (share <= 0.8)


def test_noise_counts_by_its_amplitude() -> None:
    noise = 10 ** (-26 / 20) * X.std()
    judged = emulated(of(Close(snr_db=20))).judge(
        lambda feeds: {"y": feeds["x"] + noise * np.sign(RANDOM.normal(size=feeds["x"].shape)).astype(np.float32)})
    assert judged.distance == pytest.approx(0.5, rel=0.05) and judged.snr_db["y"] == pytest.approx(26, abs=0.3)


def test_tokens_and_sequences() -> None:
    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        y = (feeds["x"] * 10).astype(np.int64)
        y[0, :4] += 1
        return {"y": y}
    judged = emulated(of(Match(0.98)), tokens=True).judge(run)
    assert judged.passed and judged.distance == pytest.approx(0.02 / 0.02)  # 8 of 400
    assert not emulated(of(Match(0.98, sequences=0.99)), tokens=True).judge(run).passed
    exact = emulated(tokens=True).judge(run)
    assert not exact.passed and exact.distance == pytest.approx(3)


def test_rows_whose_largest_entry_moved() -> None:
    judged = emulated(of(TopK(k=1, agreement=0.9))).judge(
        lambda feeds: {"y": np.where(np.arange(len(feeds["x"]))[:, None] < 2, -feeds["x"], feeds["x"])})
    assert judged.distance == pytest.approx((4 / 40) / 0.1)


@pytest.mark.parametrize("wrong", [lambda y: y * np.nan, lambda y: y[:, :3], lambda y: y.astype(np.float64)])
def test_what_cannot_be_compared_is_furthest_of_all(wrong: object) -> None:
    judged = emulated().judge(lambda feeds: {"y": wrong(feeds["x"])})  # type: ignore[operator]
    assert not judged.passed and judged.distance == 1e6 and judged.snr_db["y"] == -300


def test_batches_are_spread_over_all_samples_and_trimmed_to_true_lengths(tmp_path: Path) -> None:
    x = np.zeros((20, 9), np.float32)
    for row in range(20):
        x[row, :1 + row % 9] = row + 1
    store.write({"x": x}, tmp_path)
    samples = Samples(tmp_path, {"x": 0})
    found = batches(signature(), samples, most=10, size=4)
    assert [len(one["x"]) for one in found] == [4, 4, 2]
    assert [one["x"][0, 0] for one in found] == [1, 9, 17]
    assert [one["x"].shape[1] for one in found] == [7, 9, 8]
    assert [len(one["x"]) for one in batches(signature(batch=8), samples, most=10)] == [8, 8]


def test_what_fails_by_far_on_the_first_batch_is_not_run_on_the_others() -> None:
    runs: list[int] = []

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs.append(len(feeds["x"]))
        return {"y": feeds["x"] + 100}

    assert not emulated().judge(run, hopeless=3).passed and len(runs) == 1
    assert not emulated().judge(run).passed and len(runs) == 3
    assert emulated(of(Close(scaled=1e3))).judge(run, hopeless=3).passed and len(runs) == 5
