"""Metrics computed in workers, from what the original and candidates really answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.demo.digits import load_split
from tests.conftest import ROOT, quick_demo
from tests.metrics import users_metrics
from tests.parity.builders import World
from trt_pipeline.errors import ConfigError
from trt_pipeline.metrics import metric, scoring
from trt_pipeline.metrics.metric import Metric
from trt_pipeline.model import saved_model
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate, MetricBound
from trt_pipeline.samples import sources, store
from trt_pipeline.stages import jobs, plan
from trt_pipeline.stages.cache import StageCache
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.observer import Silent

USERS = "tests.metrics.users_metrics"


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    config = quick_demo(tmp_path)
    return Executor(config, plan.check_model(config), StageCache(tmp_path / "stages"), False, Silent())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Its original's outputs lie as in a stage's files."""
    return World(tmp_path / "made" / "files", lambda x: {"a": x * 2, "b": (x * 2).sum(axis=1)})


def planned(world: World, folder: Path, functions: dict[str, Any], labels: Any = None) -> tuple[Metric, ...]:
    return metric.plan(quick_demo(folder), ("serve",), {"serve": world.folder.parent / "samples"}, folder / "metrics",
                       functions, labels)


def test_two_outputs_a_lambda_with_labels_and_nan_in_workers(world: World, executor: Executor, tmp_path: Path) -> None:
    labels = [f"sample {n}" for n in range(10)]
    functions = {"both": users_metrics.both, "undefined": f"{USERS}:undefined",
                 "named": lambda outputs, labels: np.mean([label == f"sample {n}" for n, label in enumerate(labels)])}
    scores, costs = scoring.score(executor, "toy", planned(world, tmp_path, {"both": functions["both"]}),
                                  world.reference, world.folder)
    assert scores.values["both"] == pytest.approx(0, abs=1e-5)
    metrics = planned(world, tmp_path, {name: functions[name] for name in ("undefined", "named")}, labels)
    more, _ = scoring.score(executor, "toy", metrics, world.reference, world.folder)
    assert (more.values, more.not_finite) == ({"named": 1.0}, {"undefined": "NaN"})
    assert [cost.stage for cost in costs] == ["metric both"]
    with pytest.raises(ConfigError, match=r"metric undefined of the original is NaN, and a drop of at most 1 from the "
                                          "original is asked of candidates"):
        scoring.score_original(executor, metrics, world.reference, world.folder,
                               Gate(metrics={"undefined": MetricBound(max_drop=1)}))


def test_a_function_that_raises_is_one_line_and_is_tried_again(
        world: World, executor: Executor, tmp_path: Path) -> None:
    metrics = planned(world, tmp_path, {"broken": f"{USERS}:broken"})
    scores, costs = scoring.score(executor, "toy", metrics, world.reference, world.folder)
    assert (scores.values, scores.failed, costs) == ({}, {"broken": "ValueError: the labels are in"}, ())
    assert not list((tmp_path / "stages").glob("metric*")), "another package may mend it"
    with pytest.raises(ConfigError, match="metric broken cannot be computed of the original: ValueError: the labels"):
        scoring.score_original(executor, metrics, world.reference, world.folder, Gate())


def test_what_is_no_number_is_refused(world: World, tmp_path: Path) -> None:
    (own,) = planned(world, tmp_path, {"own": users_metrics.every_sample})
    with pytest.raises(ConfigError, match=r"metric own returned an array of shape \[3\]: return one number"):
        own.compute(world.folder, world.reference.cases)
    (own,) = planned(world, tmp_path, {"own": lambda outputs, labels: "0.5"})
    with pytest.raises(ConfigError, match="metric own returned a value of <class 'str'>: return one number"):
        own.compute(world.folder, world.reference.cases)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Reference]:
    """The demo's original on held-out digits, and as a candidate that was judged: folders of outputs, and the cases."""
    base, model = tmp_path_factory.mktemp("digits"), ROOT / "models/demo/1"
    store.write(sources.read(str(ROOT / "calibration_data/demo_validation.npz"), ["image"]), base / "samples")
    contract = saved_model.read_contract(model).model_dump(mode="json")
    same: dict[str, Any] = {"contract": contract, "samples": {"serving_default": str(base / "samples")}, "padding": {},
                            "progress": lambda done, total: None}
    original, candidate = base / "reference" / "files", base / "validate" / "files"
    index = jobs.refer(str(model), signatures=["serving_default"], batch_size=8, max_batch_size=8,
                       folder=str(original), **same)
    artifact = {"kind": "savedmodel", "files": {"serving_default": model.name}}
    verdict = jobs.validate(backend_name="original", precision="fp32", artifact=artifact,
                            artifact_folder=str(model.parent), reference_index=index, reference_folder=str(original),
                            gate={}, folder=str(candidate), answers=True, **same)
    assert verdict["passed"]
    return original, candidate, Reference.model_validate(index)


def test_accuracy_of_the_digits_is_kept_and_follows_the_labels(
        digits: tuple[Path, Path, Reference], executor: Executor, tmp_path: Path) -> None:
    original, candidate, reference = digits
    truth = load_split()[1].labels[:200]
    np.save(tmp_path / "truth.npy", truth)

    def accuracies(labels: Any) -> tuple[Metric, ...]:
        folder = original.parents[1] / "samples"
        return metric.plan(quick_demo(tmp_path), ("serving_default",), {"serving_default": folder},
                           tmp_path / "metrics", {"accuracy": f"{USERS}:accuracy"}, labels)

    metrics = accuracies(str(tmp_path / "truth.npy"))
    first, _ = scoring.score_original(executor, metrics, reference, original, Gate())
    right = [np.argmax(store.read(original / str(number))["probabilities"], axis=-1) == truth[list(case.rows)]
             for number, case in enumerate(reference.cases) if case.group == "samples"]
    assert first.values == {"accuracy": np.concatenate(right).mean()}
    assert first.values["accuracy"] > 0.9
    scores, (cost,) = scoring.score(executor, "original again", metrics, reference, candidate)
    assert scores == first
    assert not cost.cached
    scores, (cost,) = scoring.score(executor, "original again", metrics, reference, candidate)
    assert scores == first
    assert cost.cached
    other, (cost,) = scoring.score(executor, "original again", accuracies((truth + 1) % 10), reference, candidate)
    assert not cost.cached, "other labels are another result"
    assert other.values["accuracy"] < 0.1


