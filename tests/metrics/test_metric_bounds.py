"""What a metric has to keep, and what becomes of a candidate whose metric does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trt_pipeline.metrics import scoring
from trt_pipeline.metrics.score import Scores, missed
from trt_pipeline.parity.tolerance import Gate, MetricBound

ORIGINAL = Scores(values={"chrf": 45.5, "wer": 0.2, "accuracy": 0.98})


@pytest.mark.parametrize(("bound", "value", "reasons"), [
    ({"min": 45}, 45.0, []),
    ({"min": 45}, 44.9, ["metric chrf 44.9 below 45"]),
    ({"max": 46}, 46.5, ["metric chrf 46.5 above 46"]),
    ({"max_drop": 0.5}, 45.0, []),
    ({"max_drop": 0.5}, 44.4, ["metric chrf 44.4 is 1.1 below the original's 45.5, and 0.5 is allowed"]),
    ({"max_rise": 0}, 45.5, []),
    ({"max_rise": 0}, 45.6, ["metric chrf 45.6 is 0.1 above the original's 45.5, and 0 is allowed"]),
    ({"min": 45, "max_drop": 0.5}, 40.0,
     ["metric chrf 40 below 45", "metric chrf 40 is 5.5 below the original's 45.5, and 0.5 is allowed"]),
])
def test_each_bound_says_by_how_much_it_is_missed(bound: dict[str, float], value: float, reasons: list[str]) -> None:
    assert missed({"chrf": MetricBound(**bound)}, Scores(values={"chrf": value}), ORIGINAL) == reasons


def test_a_drop_of_just_what_is_allowed_is_allowed() -> None:
    assert 0.98 - 0.97 > 0.01, "as floats have it"
    assert missed({"accuracy": MetricBound(max_drop=0.01)}, Scores(values={"accuracy": 0.97}), ORIGINAL) == []


def test_what_is_no_number_misses_any_bound_and_a_direction_is_none() -> None:
    scores = Scores().with_value("chrf", float("nan")).with_value("wer", float("inf"))
    scores = scores.with_failed("bleu", "ValueError: x")
    gate = {"chrf": MetricBound(min=45, max_drop=0.5), "wer": MetricBound(higher_is_better=False),
            "bleu": MetricBound(max=1)}
    assert scores.values == {}
    assert missed(gate, scores, ORIGINAL) == [
        "metric chrf is NaN; asked: >= 45, a drop of at most 0.5 from the original",
        "metric bleu could not be computed: ValueError: x; asked: <= 1"]


def test_direction_follows_from_the_bounds_unless_it_is_said() -> None:
    assert MetricBound(max_drop=1).higher_is_better
    assert not MetricBound(max_rise=0.1).higher_is_better
    assert MetricBound(min=0, max=1).higher_is_better
    assert MetricBound(max=9, higher_is_better=True).higher_is_better
    with pytest.raises(ValidationError):
        MetricBound(max_drop=-1)


def test_a_gate_reads_back_as_it_was_written() -> None:
    gate = Gate(metrics={"wer": MetricBound(max_rise=0.01)})
    assert Gate.model_validate_json(gate.model_dump_json()) == gate
    assert Gate.model_validate(gate.model_dump(mode="json", exclude_none=True)) == gate


GATE = Gate(metrics={"chrf": MetricBound(max_drop=0.5)})


@pytest.mark.parametrize(("candidate", "before", "scores", "estimated", "after"), [
    ("a/int8", ("ok", ""), Scores(values={"chrf": 45.2}), False, ("ok", "")),
    ("a/int8", ("ok", ""), Scores(values={"chrf": 40.0}), False, (
        "rejected", "metric chrf 40 is 5.5 below the original's 45.5, and 0.5 is allowed")),
    ("a/int8", ("pending-gpu", "no GPU"), Scores(values={"chrf": 40.0}), True, (
        "pending-gpu", "no GPU; estimated metric chrf 40 is 5.5 below the original's 45.5, and 0.5 is allowed")),
    ("a/int8", ("ok", "estimated"), Scores(values={"chrf": 40.0}), True, (
        "rejected", "estimated; estimated metric chrf 40 is 5.5 below the original's 45.5, and 0.5 is allowed")),
    ("a/int8", ("rejected", "a: 3 elements"), Scores(), False, ("rejected", "a: 3 elements")),
    ("a/int8", ("ok", ""), Scores(), False, (
        "rejected", "metric chrf could not be computed: its outputs on the samples are not there; asked: a drop of at "
                    "most 0.5 from the original")),
    ("a/int8", ("ok", ""), Scores(values={"chrf": 45.5}).with_failed("other", "ValueError: x"), False, (
        "ok", "metric other could not be computed: ValueError: x")),
])
def test_a_missed_bound_rejects_and_the_rest_of_the_row_stays(
        candidate: str, before: Any, scores: Scores, estimated: bool, after: Any) -> None:
    found = scoring.standing(candidate, *before, GATE, scores, ORIGINAL, estimated)
    assert (found["status"], found["reason"]) == after
    assert found["metrics"] == scores.values


def test_the_original_stays_though_it_misses_a_bound_and_says_so() -> None:
    gate = Gate(metrics={"chrf": MetricBound(min=50)})
    found = scoring.standing("original", "ok", "", gate, ORIGINAL, ORIGINAL, False)
    assert (found["status"], found["reason"]) == ("ok", "metric chrf 45.5 below 50")
