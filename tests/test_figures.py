"""Figures by name, bounds on them, the Pareto front, the best of a run and why the rest is not it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.console import Console

from tests.report import factory
from trt_pipeline import figures, pareto
from trt_pipeline.benchmarking.interleaved import BenchmarkResult
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.config.schema import METRICS
from trt_pipeline.errors import ConfigError, GateError, InputError
from trt_pipeline.figures import Bound, compared, figure
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult

ORIGINAL = factory.judged("original", 0.99, 0.0)


def timed(name: str, ratio: Ratio, *, drift: float = 1.0, error: float = 0.0, **fields: Any) -> CandidateResult:
    """A candidate with ``ratio`` in all metrics, timed while the machine took ``drift`` times as long for anything."""
    known = factory.benchmark(ratio.value)
    batches = tuple(b.model_copy(update={
        "ratios": dict.fromkeys(b.ratios, ratio),
        "original": factory.latency(b.original.p50 * drift, b.batch_size),
        "candidate": factory.latency(b.original.p50 * drift / ratio.value, b.batch_size)}) for b in known.batches)
    found = factory.judged(name, ratio.value, error)
    return found.model_copy(update={"benchmark": known.model_copy(update={"batches": batches}), **fields})


def ratio(value: float, spread: float = 0.05) -> Ratio:
    return Ratio(value=value, low=value - spread, high=value + spread)


# --- Figures ---


def test_every_figure_of_a_candidate_in_its_unit() -> None:
    found = factory.judged("tensorflow/fp32", 2.0, 0.25).model_copy(update={"metrics": {"bleu": 31.5}})
    expected = {"latency_p50@1": 25.0, "latency_p90@1": 30.0, "latency_p99@1": 37.5, "throughput@1": 40.0,
                "speedup_throughput@8": 2.0, "parity": 0.25, "size_mb": 7.36, "memory_mb": 512.0,
                "gpu_memory_mb": None, "load_s": 1.25, "first_request_s": 0.4, "metric:bleu": 31.5, "metric:chrf": None}
    assert {name: figure(found, name) for name in expected} == expected
    run = factory.run((ORIGINAL, found))
    names = figures.names(run)
    assert set(expected) - set(names) == {"gpu_memory_mb", "metric:chrf"}
    assert all(figures.better(name) in ("low", "high") for name in names)
    assert [name for name in names if figures.better(name) == "high"] == [
        "throughput@1", *(f"speedup_{metric}@1" for metric in METRICS),
        "throughput@8", *(f"speedup_{metric}@8" for metric in METRICS), "metric:bleu"]
    assert figures.TIMED == METRICS


@pytest.mark.parametrize(("name", "value", "text"), [
    ("latency_p50@1", 23.14159, "23.1 ms"), ("throughput@8", 12345.6, "12,346 /s"),
    ("speedup_throughput@8", 1.0, "1.00x"), ("parity", 4.4099e-7, "4.41e-07"), ("parity", 0.0, "0"),
    ("size_mb", 0.9996, "1 MB"), ("memory_mb", 999.6, "1,000 MB"),
    ("load_s", None, "-"), ("parity", float("inf"), "inf"), ("metric:bleu", -3.25, "-3.25")])
def test_a_figure_reads_with_its_unit(name: str, value: float | None, text: str) -> None:
    assert figures.text(name, value) == text


def test_what_was_not_measured_is_none() -> None:
    bare = factory.candidate("tf-trt/fp16", "failed", "worker killed")
    names = ("latency_p50@1", "speedup_latency_p50@1", "parity", "size_mb", "memory_mb", "load_s", "metric:bleu")
    assert [figure(bare, name) for name in names] == [None] * len(names)
    other_size = factory.judged("a/fp32", 2.0, 0.0).model_copy(update={"benchmark": factory.benchmark(2.0, (8,))})
    assert figure(other_size, "latency_p50@1") is None
    assert figure(bare.model_copy(update={"metrics": {"bleu": float("nan")}}), "metric:bleu") is None


@pytest.mark.parametrize(("name", "message"), [
    ("latency_p9@1", "no figure 'latency_p9@1'; did you mean 'latency_p99@1'?"),
    ("sizemb", "no figure 'sizemb'; did you mean 'size_mb'?"),
    ("latency_p50", "the figure 'latency_p50' needs a batch size: latency_p50@1"),
    ("latency_p50@0", "the figure 'latency_p50@0' needs a batch size: latency_p50@1"),
    ("parity@1", "no figure 'parity@1'; did you mean 'parity'?")])
def test_an_unknown_figure_is_refused_with_the_nearest(name: str, message: str) -> None:
    for ask in (lambda: figure(ORIGINAL, name), lambda: figures.better(name), lambda: figures.unit(name)):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert str(caught.value) == message


def test_an_unlike_name_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no figure 'qqq'; there are \[speedup_\]latency_p50@BATCH, .*metric:NAME"):
        figure(ORIGINAL, "qqq")


def test_of_several_signatures_the_least_favourable_counts() -> None:
    first, second = factory.benchmark(2.0, (1,)).batches[0], factory.benchmark(3.0, (1,), ("other",)).batches[0]
    slow = second.model_copy(update={"candidate": factory.latency(80.0, 1)})
    both = factory.judged("tensorflow/fp32", 2.0, 0.0).model_copy(update={
        "benchmark": factory.benchmark(2.0).model_copy(update={"batches": (first, slow)})})
    assert figure(both, "latency_p50@1") == 80.0
    assert figure(both, "throughput@1") == 12.5
    assert figure(both, "speedup_latency_p50@1") == 2.0


def stopped(*parts: tuple[str, int], fixed: bool = False) -> BenchmarkResult:
    known = factory.benchmark(2.0)
    batches = tuple(factory.benchmark(2.0, (size,), (signature,)).batches[0].model_copy(update={"fixed": fixed})
                    for signature, size in parts)
    return known.model_copy(update={"batches": batches, "stopped": "dominated by tensorflow/bf16"})


def test_a_fixed_batch_size_stands_for_every_one() -> None:
    found = factory.judged("a/fp32", 2.0, 0.0).model_copy(update={"benchmark": stopped(("serve", 4), fixed=True)})
    assert figure(found, "latency_p50@1") == figure(found, "latency_p50@8") == 50.0
    assert figures.names(factory.run((found,)))[:4] == tuple(f"{metric}@1" for metric in METRICS)


def test_measuring_that_was_stopped_leaves_out_what_is_not_known_of_every_signature() -> None:
    found = factory.judged("tensorflow/fp32", 2.0, 0.0).model_copy(update={"benchmark": stopped(("serve", 1))})
    assert (figure(found, "latency_p50@1"), figure(found, "latency_p50@8")) == (25.0, None)
    assert found.artifact
    two = found.artifact.model_copy(update={"files": {"serve": "model", "other": "model"}})
    assert figure(found.model_copy(update={"artifact": two}), "latency_p50@1") is None
    run = factory.run((ORIGINAL, found))
    assert run.reasons("latency_p50@8")["tensorflow/fp32"] == (
        "latency_p50@8 was not measured: dominated by tensorflow/bf16")


def test_comparisons_are_free_of_the_machine_s_drift() -> None:
    """What was timed while the machine was slow is not told to be slower for that."""
    drifted = [timed("a/fp32", ratio(2.0)), timed("a/bf16", ratio(2.5), drift=3.0),
               timed("a/int8", ratio(2.2), drift=0.5)]
    everyone = (ORIGINAL, *drifted)
    assert [figure(c, "latency_p50@1") for c in drifted] == pytest.approx([25.0, 60.0, 25 / 2.2])
    assert [compared(c, "latency_p50@1", everyone) for c in everyone] == pytest.approx([50.0, 25.0, 20.0, 50 / 2.2])
    assert [compared(c, "throughput@1", everyone) for c in everyone] == pytest.approx([20.0, 40.0, 50.0, 44.0])
    run = factory.run(everyone)
    for x in (None, "latency_p50@1", "throughput@1", "speedup_latency_p50"):
        assert [c.name for c in run.pareto(x)] == ["a/bf16"], x


# --- Bounds ---


@pytest.mark.parametrize(("text", "parts"), [
    ("latency_p99@1 <= 20", ("latency_p99@1", "<=", 20.0)), ("  size_mb<7.5 ", ("size_mb", "<", 7.5)),
    ("metric:top 1 >= 9.5e-1", ("metric:top 1", ">=", 0.95)),
    ("speedup_throughput@8 > 1", ("speedup_throughput@8", ">", 1.0))])
def test_a_bound_reads_from_a_text_and_from_its_parts(text: str, parts: tuple[str, str, float]) -> None:
    bound = Bound.parse(text)
    assert (bound.figure, bound.at, bound.value) == parts
    assert Bound.parse(str(bound)) == Bound.model_validate(text) == bound
    assert TypeAdapter(Bound).validate_json(bound.model_dump_json()) == bound


@pytest.mark.parametrize(("text", "message"), [
    ("size_mb", "a bound is 'FIGURE <= NUMBER', or with <, > or >=, not 'size_mb'"),
    ("size_mb = 3", "a bound is 'FIGURE <= NUMBER', or with <, > or >=, not 'size_mb = 3'"),
    ("size <= 3", "no figure 'size'; did you mean 'size_mb'?"),
    ("latency_p50 <= 3", "the figure 'latency_p50' needs a batch size: latency_p50@1"),
    ("size_mb < 1e999", "size_mb < 1e999: Input should be a finite number")])
def test_what_is_no_bound_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Bound.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "holds"), [
    ("size_mb <= 7.36", True), ("size_mb < 7.36", False), ("size_mb >= 7.36", True), ("size_mb > 7.36", False),
    ("gpu_memory_mb < 1", None), ("metric:bleu >= 0", None)])
def test_a_bound_holds_or_not_or_cannot_be_told(text: str, holds: bool | None) -> None:
    assert Bound.parse(text).holds(factory.judged("tensorflow/fp32", 2.0, 0.0)) is holds


# --- The Pareto front ---

VALUES = st.none() | st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 1e6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES, st.sampled_from(["ok", "ok", "ok", "rejected", "failed"])), max_size=8),
       st.sampled_from(["metric:x", "size_mb"]), st.booleans())
def test_nothing_on_the_front_is_dominated_and_everything_else_is(rows: list[tuple[float | None, float | None, str]],
                                                                  x: str, rejected: bool) -> None:
    """``x`` is better high or low; the other is better high."""
    field = [factory.candidate(f"a/{number}", status, size_bytes=round((one or 0) * 1e6),
                               metrics={key: value for key, value in (("x", one), ("y", two)) if value is not None})
             for number, (one, two, status) in enumerate(rows)]
    front = pareto.front(field, x, "metric:y", include_rejected=rejected)
    sign = 1 if x == "metric:x" else -1
    known = {c.name: (sign * one, two) for c in field
             if c.status == "ok" or (rejected and c.status == "rejected")
             if (one := figure(c, x)) is not None and (two := figure(c, "metric:y")) is not None}
    names = [point.candidate.name for point in front]
    assert set(names) <= set(known)
    for name, (one, two) in known.items():
        dominated = any(a >= one and b >= two and (a > one or b > two) for a, b in known.values())
        assert (name not in names) == dominated
    assert [known[name][0] for name in names] == sorted((known[name][0] for name in names), reverse=True)


def test_the_front_of_one_and_of_none() -> None:
    assert factory.run((ORIGINAL,)).pareto() == [ORIGINAL]
    assert factory.run((ORIGINAL,)).pareto("size_mb", "memory_mb") == [ORIGINAL]
    assert factory.run((factory.candidate("tf-trt/fp16", "failed", "x"),)).pareto() == []


def test_the_rejected_stand_on_the_front_only_when_asked_for() -> None:
    run = factory.run((ORIGINAL, factory.judged("tensorflow/bf16", 2.0, 0.1, "too far off")))
    assert [c.name for c in run.pareto()] == ["original"]
    assert [c.name for c in run.pareto(include_rejected=True)] == ["tensorflow/bf16", "original"]


@pytest.mark.parametrize(("name", "message"), [
    ("latency_p50@3", "no candidate was measured at batch size 3: 1, 8 were"),
    ("metric:ble", "no candidate has the figure 'metric:ble': there are metric:bleu; did you mean 'metric:bleu'?")])
def test_a_figure_that_nobody_has_is_refused(name: str, message: str) -> None:
    run = factory.run((ORIGINAL.model_copy(update={"metrics": {"bleu": 3.0}}),))
    for ask in (run.pareto, run.best, run.reasons, run.table, lambda x: run.best(subject_to=[f"{x} < 3"])):
        with pytest.raises(ConfigError) as caught:
            ask(name)
        assert str(caught.value) == message


def test_a_run_without_metrics_or_timings_says_so() -> None:
    bare = factory.run((factory.candidate("original"),))
    with pytest.raises(ConfigError, match=r"^no candidate was measured at batch size 1: none was timed at all$"):
        bare.best("latency_p50")
    with pytest.raises(ConfigError, match=r"^no candidate has the figure 'metric:x': this run had no metric"):
        bare.best("metric:x")
    assert bare.best().name == "original"


# --- The best, and why the rest is not ---

FAST = timed("onnxruntime/int8", ratio(4.0, 0.1), error=0.2)
CLOSE = timed("onnxruntime/fp32", ratio(3.0, 0.1), error=1e-7, size_bytes=9_000_000)
UNSURE = timed("tensorflow/fp32", Ratio(value=1.2, low=0.9, high=1.5), error=0.0, size_bytes=5_000_000)
FIELD = factory.run((ORIGINAL, FAST, CLOSE, UNSURE, factory.judged("tensorflow/bf16", 9.0, 0.5, "serve.y: far off"),
                     factory.candidate("tensorrt/fp16", "pending-gpu", "no GPU here")))


@pytest.mark.parametrize(("objective", "bounds", "best"), [
    (None, [], "onnxruntime/int8"),
    ("latency_p50@8", [], "onnxruntime/int8"),
    ("speedup_throughput", [], "onnxruntime/int8"),
    (None, ["parity <= 1e-3"], "onnxruntime/fp32"),
    (None, [Bound.parse("parity <= 1e-3"), "latency_p99 <= 20"], "original"),
    ("parity", ["speedup_latency_p50@1 > 1"], "tensorflow/fp32"),
    ("parity", [], "tensorflow/fp32"),
    ("size_mb", ["parity < 0.1"], "tensorflow/fp32"),
    (None, "size_mb < 6", "tensorflow/fp32")])
def test_the_best_by_any_figure_within_bounds(objective: str | None, bounds: Any, best: str) -> None:
    """Where the original is out by a bound, nobody has to be faster than it beyond doubt."""
    if best == "original":
        with pytest.raises(GateError):
            FIELD.best(objective, bounds)
        return
    assert FIELD.best(objective, bounds).name == best


def test_a_candidate_that_may_be_slower_than_the_original_is_not_better() -> None:
    run = factory.run((ORIGINAL, UNSURE))
    assert run.best().name == "original"
    assert run.reasons() == {
        "tensorflow/fp32": "not faster than the original beyond doubt: 1.20x [0.90, 1.50] in latency_p50@1"}


def test_where_nobody_keeps_the_bounds_the_nearest_is_named_with_what_it_misses() -> None:
    with pytest.raises(GateError) as caught:
        FIELD.best(subject_to=["latency_p50 <= 10", "parity < 1", "gpu_memory_mb < 100"])
    assert str(caught.value) == (
        "no candidate of demo that passed its gate keeps latency_p50@1 <= 10 and parity < 1 and gpu_memory_mb < 100: "
        "original misses latency_p50@1 <= 10 by 40.5 ms: it has 50.5 ms; gpu_memory_mb was not measured")
    none = factory.run((factory.candidate("tf-trt/fp16", "failed", "worker killed"),))
    with pytest.raises(GateError, match=r"^no candidate of demo passed its gate$"):
        none.best()
    assert none.reasons() == {"tf-trt/fp16": "failed: worker killed"}
    with pytest.raises(GateError, match=r"^no candidate of demo that passed its gate was measured in gpu_memory_mb$"):
        FIELD.best("gpu_memory_mb")


def test_every_candidate_but_the_best_has_one_line_that_says_why() -> None:
    assert FIELD.reasons() == {
        "original": "slower: onnxruntime/int8 is 4.00x [3.90, 4.10] as fast in latency_p50@1",
        "onnxruntime/fp32": "slower: onnxruntime/int8 is 1.33x [1.26, 1.41] as fast in latency_p50@1",
        "tensorflow/fp32": "slower: onnxruntime/int8 is 3.33x [2.60, 4.56] as fast in latency_p50@1",
        "tensorflow/bf16": "rejected: serve.y: far off",
        "tensorrt/fp16": "pending-gpu: no GPU here; there run: trt-pipeline finalize "
                         "artifacts/demo/20240501-101500/candidates/tensorrt-fp16 -o NEW_FOLDER"}
    within = FIELD.reasons(subject_to=["parity <= 1e-3", "size_mb < 9.5"])
    assert within["onnxruntime/int8"] == "misses parity <= 0.001 by 0.199: it has 0.2"
    assert FIELD.reasons("size_mb", ["parity < 1"])["onnxruntime/fp32"] == (
        "size_mb is 9 MB: tensorflow/fp32 has 5 MB, and no further from the original")


def test_reasons_name_who_dominates_and_who_cannot_be_told_apart() -> None:
    near = timed("a/fp32", ratio(3.9, 0.2), error=0.3)
    beaten = timed("a/bf16", ratio(2.0), error=0.1)
    run = factory.run((ORIGINAL, FAST, CLOSE, near, beaten))
    assert run.reasons()["a/fp32"] == ("not told from onnxruntime/int8, which is 1.03x [0.95, 1.11] as fast in "
                                       "latency_p50@1")
    assert run.reasons()["a/bf16"] == ("slower: onnxruntime/int8 is 2.00x [1.90, 2.10] as fast in latency_p50@1; "
                                       "onnxruntime/fp32 dominates it in this and in parity")
    worse = factory.run((ORIGINAL, FAST, timed("a/bf16", ratio(2.0), error=0.2)))
    assert worse.reasons()["a/bf16"].endswith("as fast in latency_p50@1, and no further from the original")


def test_of_equals_the_faster_is_the_best_by_a_figure_without_an_interval() -> None:
    run = factory.run((timed("a/fp32", ratio(1.0)), timed("a/bf16", ratio(2.0))))
    assert run.best("size_mb").name == "a/bf16"
    assert run.reasons("size_mb") == {
        "a/fp32": "no better than a/bf16 in size_mb (7.36 MB), and no faster"}


# --- Tables ---


def test_a_frame_has_a_row_for_each_candidate_and_proper_dtypes() -> None:
    run = factory.run((ORIGINAL, FAST.model_copy(update={"options": {"b": 1, "a": [2]}, "metrics": {"bleu": 30.0}}),
                       factory.candidate("tf-trt/fp16", "failed", "x")))
    frame = run.to_frame()
    assert list(frame.index) == ["original", "onnxruntime/int8", "tf-trt/fp16"]
    row = frame.loc["onnxruntime/int8"]
    assert (row["backend"], row["precision"], row["options"]) == ("onnxruntime", "int8", '{"a": [2], "b": 1}')
    assert (row["speedup_latency_p50@1"], row["speedup_latency_p50@1_low"], row["metric:bleu"]) == (4.0, 3.9, 30.0)
    assert list(frame["passed"]) == [True, True, False]
    assert frame.loc["tf-trt/fp16", ["parity", "size_mb", "latency_p50@8", "speedup_throughput@1_high"]].isna().all()
    assert set(map(str, frame.dtypes)) == {"string", "boolean", "Int64", "Float64"}
    assert {name: str(frame.dtypes[name]) for name in ("parity", "islands", "passed", "reason", "gpu_memory_mb")} == {
        "parity": "Float64", "islands": "Int64", "passed": "boolean", "reason": "string", "gpu_memory_mb": "Float64"}
    assert frame[frame["latency_p50@1"] < 20].index.to_list() == ["onnxruntime/int8"]


def test_a_frame_by_batch_has_a_row_for_each_signature_and_size_with_the_original_s_timings() -> None:
    frame = factory.run((ORIGINAL, FAST, factory.candidate("tf-trt/fp16", "failed", "x"))).to_frame("batch")
    assert list(frame.index) == [(name, "serve", size) for name in ("original", "onnxruntime/int8") for size in (1, 8)]
    row = frame.loc["onnxruntime/int8", "serve", 1]
    assert (row["latency_p50"], row["original_latency_p50"], row["speedup_latency_p50_high"]) == (12.5, 50.0, 4.1)
    assert row["requests"] == 40


def test_frames_of_nothing_are_empty() -> None:
    nothing = factory.run(())
    assert nothing.to_frame().empty
    assert nothing.to_frame("batch").index.names == ["name", "signature", "batch_size"]


def drawn(run: RunResult, *arguments: str, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(run.table(*arguments))
    return console.export_text()


def test_the_table_shows_the_front_and_marks_the_best() -> None:
    lines = drawn(FIELD).splitlines()
    assert lines[0].split() == ["speedup", "[95", "%]"]
    assert [line.split()[0] for line in lines[3:6]] == ["onnxruntime/int8", "onnxruntime/fp32", "tensorflow/fp32"]
    assert lines[3].split()[1:] == ["*", "4.00x", "[3.90,", "4.10]", "0.2", "7.36", "MB"]
    assert lines[5].split()[-3:] == ["exact", "5", "MB"]
    assert "* the best by latency_p50@1" in lines[6]
    assert max(map(len, lines)) <= 80


def test_the_table_of_two_speeds_shows_both_with_their_intervals() -> None:
    text = drawn(FIELD, "latency_p99", "throughput@8", width=110)
    assert "onnxruntime/int8 *" in text
    assert "18.7 ms" in text or "18.8 ms" in text
    assert "4.00x [3.90, 4.10]" in text


def test_the_table_of_nobody_says_so() -> None:
    assert "no candidate that passed its gate has both figures" in drawn(
        factory.run((factory.candidate("tf-trt/fp16", "failed", "x"),)))


# --- A candidate knows its run ---


def test_candidates_know_their_run_however_it_was_got() -> None:
    again = RunResult.model_validate_json(FIELD.model_dump_json())
    for run in (FIELD, again, pickle.loads(pickle.dumps(FIELD)),
                FIELD.model_copy(update={"candidates": (FAST, ORIGINAL)}), FIELD.model_copy(deep=True)):
        assert all(candidate._link.run is run for candidate in run.candidates)
    assert all(candidate._link.run is FIELD for candidate in FIELD.candidates)
    assert FAST._link.run is None
    assert again == FIELD == copy.deepcopy(FIELD)
    assert RunResult.model_validate(FIELD.model_dump()) == FIELD


def test_a_candidate_without_its_run_is_the_same_and_does_not_take_the_run_along() -> None:
    best = FIELD.best()
    alone = pickle.loads(pickle.dumps(best))
    assert alone == best == CandidateResult.model_validate_json(best.model_dump_json())
    assert repr(alone) == repr(best)
    assert len(pickle.dumps(best)) < len(pickle.dumps(FIELD)) / 3
    with pytest.raises(InputError, match=r"^onnxruntime/int8 is not known to be of a run: get it from one"):
        alone.publish("serving/demo")


def test_what_did_not_pass_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(GateError) as caught:
        FIELD.candidate("tensorflow/bf16").publish(tmp_path)
    assert str(caught.value) == ("tensorflow/bf16 is rejected: only what passed its gate is published "
                                 "(serve.y: far off)")
    with pytest.raises(KeyError):
        FIELD.publish("nobody", tmp_path)


def test_figures_and_results_import_no_pandas() -> None:
    code = "import sys, trt_pipeline.run_result; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_metric_says_itself_which_way_is_up() -> None:
    def row(name: str, wer: float, size: int) -> CandidateResult:
        return CandidateResult(name=name, backend="tensorflow", precision="fp32", status="ok", size_bytes=size,
                               metrics={"wer": wer}, lower_is_better=("wer",))

    close, far = row("tensorflow/fp32", 0.1, 20), row("tensorflow/bf16", 0.4, 20)
    assert [point.candidate.name for point in pareto.front([far, close], "metric:wer", "size_mb")] == [close.name]
    assert figures.better("metric:wer", [close]) == "low"
    assert figures.better("metric:wer") == "high"
