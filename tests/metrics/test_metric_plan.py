"""Metrics are checked before anything is worked for: what they are of, and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import quick_demo
from trt_pipeline.config import loader
from trt_pipeline.errors import ConfigError, SamplesError
from trt_pipeline.metrics import metric
from trt_pipeline.metrics.metric import Metric
from trt_pipeline.samples import store

ACCURACY = "tests.metrics.users_metrics:accuracy"
SIGNATURES = ("serving_default", "classify")


def plan(folder: Path, signatures: tuple[str, ...] = SIGNATURES, functions: Any = None, labels: Any = None,
         **config: Any) -> tuple[Metric, ...]:
    samples = {}
    for name, count in (("serving_default", 10), ("classify", 12)):
        samples[name] = folder / name
        store.write({"x": np.zeros(count, np.float32)}, samples[name])
    return metric.plan(quick_demo(folder, signatures=list(signatures), **config), signatures, samples,
                       folder / "metrics", functions, labels)


def test_the_only_signature_is_meant(tmp_path: Path) -> None:
    (found,) = plan(tmp_path, ("classify",), metrics={"accuracy": ACCURACY})
    assert (found.name, found.signature, found.labels) == ("accuracy", "classify", None)


def test_of_several_signatures_the_one_with_labels_is_meant_or_the_one_in_the_name(tmp_path: Path) -> None:
    np.save(tmp_path / "twelve.npy", np.zeros(12))
    (found,) = plan(tmp_path, metrics={"accuracy": ACCURACY}, labels={"classify": str(tmp_path / "twelve.npy")})
    assert found.signature == "classify"
    both = plan(tmp_path, functions={"serving_default.accuracy": ACCURACY, "classify.accuracy": ACCURACY},
                labels={"classify": np.zeros(12), "serving_default": [0] * 10})
    assert [(one.name, one.signature) for one in both] == [
        ("serving_default.accuracy", "serving_default"), ("classify.accuracy", "classify")]
    assert both[0].labels != both[1].labels
    with pytest.raises(ConfigError, match=r"metric accuracy may be of serving_default, classify: call it "
                                          r"SIGNATURE\.accuracy, or give labels for one of them only"):
        plan(tmp_path, metrics={"accuracy": ACCURACY})


def test_a_wrong_number_of_labels_is_one_line_that_names_file_and_signature(tmp_path: Path) -> None:
    (tmp_path / "digits.txt").write_text("seven\n" * 9)
    with pytest.raises(SamplesError, match=r"^labels .*digits.txt has 9 labels, and signature serving_default has 10 "
                                           "samples: give one for each, in their order$"):
        plan(tmp_path, ("serving_default",), metrics={"accuracy": ACCURACY},
             labels=str(tmp_path / "digits.txt"))


def test_a_bound_on_a_metric_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the gate bounds the metric 'acuracy', which is none: there are accuracy; "
                                          "did you mean 'accuracy'"):
        plan(tmp_path, ("classify",), metrics={"accuracy": ACCURACY}, gate={"metrics": {"acuracy": {"min": 0.9}}})


def test_the_digest_is_of_code_labels_and_signature(tmp_path: Path) -> None:
    def digest(labels: Any, name: str = "m", function: Any = ACCURACY) -> str:
        return plan(tmp_path, ("classify",), functions={name: function}, labels=labels)[0].digest

    ones = np.ones(12)
    assert digest(ones) == digest(ones.copy(), name="another name")
    assert len({digest(ones), digest(ones * 2), digest(None),
                digest(ones, function="tests.metrics.users_metrics:both")}) == 4


def test_what_is_not_on_another_machine_can_be_taken_there(tmp_path: Path) -> None:
    (found,) = plan(tmp_path, ("classify",), functions={"m": lambda outputs, labels: 0.0}, labels=np.ones(12))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in found.files:
        file.rename(elsewhere / file.name)
    moved = found.moved(elsewhere)
    assert moved.digest == found.digest
    assert len(moved.files) == 2 and all(file.is_file() for file in moved.files)
    assert plan(tmp_path, ("classify",), metrics={"accuracy": ACCURACY})[0].files == ()


@pytest.mark.parametrize(("metrics", "reason"), [
    ({"chrf": "mypackage.metrics"}, "4: metrics.chrf: 'mypackage.metrics' is no function: name one as "
                                    "package.module:function or path/to/file.py:function"),
    ({"chr f": "a:b"}, "a metric's name has no spaces"),
])
def test_the_configuration_says_what_a_metric_is(metrics: dict[str, str], reason: str, tmp_path: Path) -> None:
    name, function = next(iter(metrics.items()))
    file = tmp_path / "own.yaml"
    file.write_text(f"name: own\nmodel: models/demo/1\nmetrics:\n  {name}: {function}\n"
                    "samples: {validation: a.npz}\n")
    with pytest.raises(ConfigError) as refused:
        loader.load(file)
    assert reason in str(refused.value)


def test_a_configuration_with_metrics_labels_and_bounds_is_read(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("name: own\nmodel: models/demo/1\nsamples: {validation: a.npz}\nlabels: a.npy\n"
                    "metrics: {chrf: mypackage.metrics:chrf, wer: path/to my/file.py:Rates.words}\n"
                    "gate: {metrics: {chrf: {min: 45, max_drop: 0.5}, wer: {max_rise: 0.01}}}\n")
    config = loader.load(file)
    assert config.gate.metrics["chrf"].higher_is_better
    assert not config.gate.metrics["wer"].higher_is_better
    assert config.labels == "a.npy"
    assert type(config).model_validate(config.model_dump(mode="json")) == config
