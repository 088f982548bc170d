"""The gate of a whole run: who is judged, what is pending, and what a missed one withholds."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from judged_runs import FAILED, PENDING, RUN, TARGETS, WRONG

from trt_pipeline.ci import gate
from trt_pipeline.ci.outcome import Outcome
from trt_pipeline.config.schema import Target
from trt_pipeline.run_result import RunResult


def judged(*expressions: str, run: RunResult = RUN, targets: tuple[Target, ...] = TARGETS, **more: Any
           ) -> tuple[Outcome, ...]:
    return gate.judge(gate.checks(expressions, **more), run, targets).outcomes


def test_a_bound_holds_for_what_each_target_gets() -> None:
    found, = judged("speedup_latency_p50@1 >= 1.4")
    assert (found.candidate, found.standing, found.targets) == (
        "tensorflow/fp32", "met", ("tf-serving 2.14", "triton 24.10"))
    assert judged("speedup_latency_p50@1 >= 1.6")[0].standing == "missed"


def test_in_a_sweep_it_holds_for_the_best() -> None:
    found, = judged("speedup_latency_p50@1 >= 1.4", targets=())
    assert (found.candidate, found.standing, found.targets) == ("tensorflow/fp32", "met", ())


def test_where_nothing_beats_the_original_its_speedup_is_one() -> None:
    run = factory.run((factory.ORIGINAL, WRONG), ())
    assert [one.standing for one in judged("speedup_latency_p50@1 >= 1", "speedup_latency_p50@1 > 1", run=run)] == [
        "met", "missed"]


@pytest.mark.parametrize(("expression", "standing", "detail"), [
    ("tensorflow/int8: speedup_latency_p50@1 >= 1.1", "met", "speedup_latency_p50@1 is 2"),
    ("tensorflow/int8: parity <= 0.05", "missed", "parity is 0.3"),
    ("tensorflow/int8: ok", "missed", "it is rejected: serve.scores: 97 of 640"),
    ("tensorflow/fp32: ok", "met", "it is ok"),
    ("tf-trt/fp16: ok", "pending", "it is pending-gpu"),
    ("tf-trt/fp16: parity <= 0.05", "pending", "it takes a GPU"),
    ("tf-trt/fp16: latency_p50@1 <= 1", "pending", "it takes a GPU"),
    ("tensorflow/fp32: gpu_memory_mb <= 900", "pending", "it takes a GPU"),
    ("onnxruntime/int8: latency_p50@1 <= 1", "missed", "not measured: it is failed: convert: worker killed"),
    ("onnxruntime/int8: ok", "missed", "it is failed"),
])
def test_a_bound_on_a_named_candidate(expression: str, standing: str, detail: str) -> None:
    found, = judged(expression)
    assert found.standing == standing
    assert detail in found.detail


def test_an_estimate_that_is_accepted_settles_parity_and_no_speed() -> None:
    run = factory.run((factory.ORIGINAL, PENDING.model_copy(update={"status": "ok"})), ())
    parity, speed = judged("tf-trt/fp16: parity <= 0.05", "tf-trt/fp16: latency_p50@1 <= 3", run=run)
    assert (parity.standing, parity.detail) == ("met", "parity is about 0.001")
    assert speed.standing == "pending"


def test_what_is_pending_fails_only_if_asked() -> None:
    asked = ["tf-trt/fp16: ok"]
    assert gate.judge(gate.checks(asked), RUN, TARGETS).passed
    strict = gate.judge(gate.checks(asked, strict=True), RUN, TARGETS)
    assert not strict.passed
    assert strict.reason.startswith("tf-trt/fp16: ok: it is pending-gpu")


def test_a_missed_gate_withholds_every_publication() -> None:
    found = gate.judge(gate.checks(["parity <= 1e-9", "tensorflow/int8: ok"]), RUN, TARGETS)
    assert found.reason.startswith("tensorflow/fp32 for tf-serving 2.14, triton 24.10: parity <= 1e-09: parity is "
                                   "3e-07; tensorflow/int8: ok: it is rejected")
    publications = gate.withheld(found, TARGETS)
    assert [(one.target, one.candidate, one.path) for one in publications] == [
        ("tf-serving 2.14", None, None), ("triton 24.10", None, None)]
    assert publications[0].why.startswith("the gate was missed: ")


def test_a_target_that_can_get_nothing_misses_every_bound() -> None:
    run = factory.run((factory.ORIGINAL.model_copy(update={"artifact": None}), FAILED), ())
    found, = judged("parity <= 1", run=run)
    assert (found.candidate, found.standing) == ("", "missed")
