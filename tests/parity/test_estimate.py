"""A candidate that cannot run here is judged by its stand-ins: first its surgery, then what its precision does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.builders import FunctionRunner, World
from trt_pipeline.backends.base import Artifact, Backend, ConversionRequest, Runner, StandIn
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity import estimate
from trt_pipeline.parity.judge import Verdict
from trt_pipeline.parity.tolerance import Close, Gate

Outputs = dict[str, np.ndarray]
WEIGHTS = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
PENDING = "no GPU here"


def original(x: np.ndarray) -> Outputs:
    return {"y": x @ WEIGHTS}


def scaled(factor: float) -> Callable[[np.ndarray], Outputs]:
    return lambda x: {"y": x @ WEIGHTS * np.float32(factor)}


class Pending(Backend):
    """Its stand-ins answer from functions; what they are asked and where is written down."""

    name, precisions, kind = "pending", ("fp32", "fp16", "int8"), "tensorrt-savedmodel"

    def __init__(self, surgery: Any = original, rounded: Any = original, found: dict[str, float] | None = None) -> None:
        self.functions = {"surgery": surgery, "estimate": rounded, "magnitudes": surgery}
        self.found = found or {}
        self.written: list[StandIn] = []
        self.folders: list[Path] = []
        self.fed: list[tuple[str, int]] = []
        self.files: list[Path | None] = []

    def write_stand_in(self, artifact: Artifact, folder: Path, target: Path, kind: StandIn,
                       magnitudes: Path | None = None) -> None:
        self.written.append(kind)
        self.folders.append(target)
        self.files.append(magnitudes)
        target.mkdir(parents=True)
        (target / "kind").write_text(kind)

    def magnitudes(self, file: Path) -> dict[str, float]:
        assert file == self.files[-1]
        return self.found

    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        raise AssertionError("nothing is converted here")

    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        raise AssertionError("the artifact itself cannot run here")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, original)


class Steps(list[tuple[int, int]]):
    """What the progress was told."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


@pytest.fixture
def judged(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Verdict, Steps]]:
    """Judge a backend's stand-ins against the original; the runner of SavedModels reads the kind of one instead."""

    def judge(backend: Pending, precision: str = "fp16", gate: Gate | None = None,
              unestimated: str = "") -> tuple[Verdict, Steps]:
        def runner(contract: Contract, folder: Path) -> Runner:
            kind = (folder / "kind").read_text()

            def answer(x: np.ndarray) -> Outputs:
                backend.fed.append((kind, len(x)))
                return backend.functions[kind](x)

            return FunctionRunner(contract, answer)

        monkeypatch.setattr(estimate, "SavedModelRunner", runner)
        steps = Steps()
        artifact = Artifact(kind="tensorrt-savedmodel", files={"serve": "model"}, unestimated=unestimated)
        verdict = estimate.judge_stand_ins(
            backend, artifact, world.folder, world.contract, world.reference, world.folder,
            {"serve": world.samples}, gate or Gate(), precision, PENDING, steps)
        return verdict, steps

    return judge


def test_both_pass(judged: Any) -> None:
    backend = Pending(rounded=scaled(1.0005))
    verdict, _ = judged(backend)
    assert (verdict.passed, verdict.reason) == (True, "")
    assert verdict.estimate.pending == PENDING
    assert (verdict.estimate.surgery.passed, verdict.estimate.surgery.error) == (True, 0.0)
    assert verdict.error == pytest.approx(5e-4, rel=0.1), "the verdict's own is the estimate's, not the surgery's"
    assert backend.written == ["surgery", "estimate", "magnitudes"]


def test_at_fp32_there_is_nothing_to_estimate(judged: Any, world: World) -> None:
    backend = Pending()
    verdict, steps = judged(backend, "fp32")
    assert backend.written == ["surgery"]
    assert verdict.passed
    assert verdict.estimate.surgery.error == verdict.error == 0.0
    assert (verdict.estimate.overflows, verdict.estimate.underflows) == ({}, ())
    assert steps[-1] == (len(world.reference.cases),) * 2


def test_what_cannot_be_estimated_is_judged_by_its_surgery_and_says_so(judged: Any, world: World) -> None:
    """As int8 whose ranges TensorRT will find itself, on a GPU."""
    backend = Pending(rounded=broken)
    verdict, steps = judged(backend, "int8", unestimated="TensorRT has not calibrated it yet")
    assert backend.written == ["surgery"]
    assert verdict.passed
    assert verdict.estimate.missing == "TensorRT has not calibrated it yet"
    assert steps[-1] == (len(world.reference.cases),) * 2


def test_a_surgery_that_fails_is_the_verdict_and_nothing_is_estimated(judged: Any) -> None:
    backend = Pending(surgery=scaled(1.01))
    verdict, _ = judged(backend)
    assert not verdict.passed
    assert not verdict.estimate.surgery.passed
    assert verdict.estimate.surgery.reason == verdict.reason != ""
    assert verdict.estimate.surgery.error == verdict.error > 1e-3
    assert backend.written == ["surgery"]


def test_the_surgery_is_held_to_fp32_and_the_estimate_to_its_precision(judged: Any) -> None:
    """A hundredth is too much for float32 arithmetic and passes at int8."""
    assert not judged(Pending(surgery=scaled(1.01)), "int8")[0].estimate.surgery.passed
    verdict, _ = judged(Pending(rounded=scaled(1.01)), "int8")
    assert verdict.passed and verdict.estimate.surgery.passed


def test_a_gate_of_the_config_holds_for_the_estimate(judged: Any) -> None:
    strict = Gate(outputs={"y": Close(scaled=1e-5)})
    verdict, _ = judged(Pending(rounded=scaled(1.0005)), gate=strict)
    assert not verdict.passed
    assert verdict.estimate.surgery.passed


def test_an_estimate_that_fails_says_so_beside_a_surgery_that_passed(judged: Any) -> None:
    verdict, _ = judged(Pending(rounded=scaled(2.0), found={"scores": 1e9}))
    assert not verdict.passed
    assert verdict.reason.startswith("serve.y: ")
    assert (verdict.estimate.surgery.passed, verdict.estimate.surgery.reason) == (True, "")
    assert verdict.estimate.overflows == {"scores": 1e9}, "what explains the failure is there"


def broken(x: np.ndarray) -> Outputs:
    raise ValueError("no such kernel")


def test_a_stand_in_that_raises_is_a_verdict_with_its_words(judged: Any) -> None:
    verdict, _ = judged(Pending(surgery=broken))
    assert (verdict.passed, verdict.estimate.surgery.passed) == (False, False)
    assert "ValueError: no such kernel" in verdict.estimate.surgery.reason
    verdict, _ = judged(Pending(rounded=broken))
    assert (verdict.passed, verdict.estimate.surgery.passed) == (False, True)
    assert "ValueError: no such kernel" in verdict.reason


def test_hazards_are_found_and_the_largest_comes_first(judged: Any) -> None:
    found = {"mask": 1e9, "held": 65504.0, "just over": 65505.0, "logits": 7e4, "infinite": float("inf"),
             "tiny": 2.0 ** -25, "small": 2.0 ** -24, "zero": 0.0}
    estimated = judged(Pending(found=found))[0].estimate
    assert list(estimated.overflows.items()) == [("infinite", float("inf")), ("mask", 1e9), ("logits", 7e4),
                                                 ("just over", 65505.0)]
    assert estimated.underflows == ("tiny",)


def test_a_tensor_that_became_nan_is_a_hazard(judged: Any) -> None:
    """NaN compares with nothing, so it has to be asked for."""
    assert "worst" in judged(Pending(found={"worst": float("nan"), "fine": 1.0}))[0].estimate.overflows


def test_magnitudes_are_fed_one_case_of_each_corner(judged: Any, world: World) -> None:
    backend = Pending()
    judged(backend)
    watched = [rows for kind, rows in backend.fed if kind == "magnitudes"]
    first = dict(reversed([(case.group, len(case.rows)) for case in world.reference.cases]))
    assert sorted(watched) == sorted(first.values())
    assert len(watched) < len([1 for kind, _ in backend.fed if kind == "surgery"]) + 1


@pytest.mark.parametrize(("precision", "runs"), [("fp32", 1), ("fp16", 2)])
def test_progress_rises_to_its_total(precision: str, runs: int, judged: Any, world: World) -> None:
    _, steps = judged(Pending(), precision)
    total = runs * len(world.reference.cases)
    assert {of for _, of in steps} == {total}
    assert [done for done, _ in steps] == list(range(1, total + 1))
    assert all(a < b for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize("rounded", [original, broken])
def test_stand_ins_are_gone_afterwards(rounded: Any, judged: Any) -> None:
    backend = Pending(rounded=rounded)
    judged(backend)
    assert len(backend.folders) == 3
    assert len(set(backend.folders)) == 3
    assert not any(folder.parent.exists() for folder in backend.folders)


def test_a_verdict_survives_the_way_through_json(judged: Any) -> None:
    import json

    verdict, _ = judged(Pending(found={"infinite": float("inf"), "mask": 1e9}))
    again = Verdict.model_validate(json.loads(json.dumps(verdict.model_dump(mode="json"))))
    assert again == verdict
    assert list(again.estimate.overflows) == ["infinite", "mask"]
