"""A target gets the fastest candidate that passed, that it can load, and that is faster for sure."""

from __future__ import annotations

import pytest

from tests.publish.candidates import ORIGINAL, candidate, judged, ratio, timed
from trt_pipeline.benchmarking.statistics import Ratio
from trt_pipeline.config.schema import Config, Target
from trt_pipeline.errors import ConfigError
from trt_pipeline.parity.judge import Estimate, SurgeryVerdict, Verdict
from trt_pipeline.publish.select import check_targets, choose, fastest, form_for, pareto_front, parity_error
from trt_pipeline.results import CandidateResult

SERVING = Target(kind="tf-serving", version="2.14")
OLD_TRITON = Target(kind="triton", version="24.10")
NEW_TRITON = Target(kind="triton", version="25.03")
OBJECTIVE = "latency_p50@1"


def config(*targets: Target) -> Config:
    return Config.model_validate({"name": "demo", "model": "m", "samples": {"validation": "v.npz"},
                                  "targets": [t.model_dump() for t in targets]})


def test_the_fastest_that_passed_is_chosen() -> None:
    choice = choose(SERVING, (ORIGINAL, candidate("tensorflow/fp32", ratio(1.5)),
                              candidate("tensorflow/bf16", ratio(1.9))), OBJECTIVE)
    assert choice.candidate == "tensorflow/bf16"
    assert choice.why == "latency_p50@1: 1.90x [1.85, 1.95] of the original"


@pytest.mark.parametrize("status", ["rejected", "failed", "unsupported", "pending-gpu"])
def test_what_did_not_pass_is_never_chosen(status: str) -> None:
    others = (ORIGINAL, candidate("tensorflow/bf16", ratio(9.0), status=status))  # type: ignore[arg-type]
    assert choose(SERVING, others, OBJECTIVE).candidate == "original"


def test_what_a_server_cannot_load_is_not_chosen_for_it() -> None:
    field = (ORIGINAL, candidate("tensorflow/fp32", ratio(1.5)), candidate("onnxruntime/fp32", ratio(4.0), kind="onnx"))
    assert choose(SERVING, field, OBJECTIVE).candidate == "tensorflow/fp32"
    assert choose(OLD_TRITON, field, OBJECTIVE).candidate == "onnxruntime/fp32"


@pytest.mark.parametrize(("low", "chosen"), [(0.999, "original"), (1.0, "original"), (1.001, "tensorflow/fp32")])
def test_the_whole_interval_must_be_above_one(low: float, chosen: str) -> None:
    field = (ORIGINAL, candidate("tensorflow/fp32", Ratio(value=1.3, low=low, high=1.7)))
    assert choose(SERVING, field, OBJECTIVE).candidate == chosen


def test_a_slower_candidate_that_is_sure_beats_a_faster_one_that_is_not() -> None:
    field = (ORIGINAL, candidate("tensorflow/fp32", Ratio(value=1.1, low=1.05, high=1.2)),
             candidate("tensorflow/bf16", Ratio(value=1.5, low=0.8, high=2.2)))
    assert choose(SERVING, field, OBJECTIVE).candidate == "tensorflow/fp32"


def test_the_original_is_published_where_nothing_beats_it_and_the_reason_says_so() -> None:
    choice = choose(SERVING, (ORIGINAL, candidate("tensorflow/fp32", ratio(0.9))), OBJECTIVE)
    assert choice.candidate == "original"
    assert choice.why == "no candidate that it can load beats the original in latency_p50@1"


def test_the_original_is_never_its_own_rival() -> None:
    assert fastest((candidate("original", ratio(1.2)),), OBJECTIVE) is None


def test_a_server_that_cannot_load_the_original_gets_the_best_that_passed_even_if_slower() -> None:
    field = (ORIGINAL, candidate("onnxruntime/fp32", ratio(0.8), kind="onnx"),
             candidate("onnxruntime/int8", ratio(0.9), kind="onnx"))
    choice = choose(NEW_TRITON, field, OBJECTIVE)
    assert choice.candidate == "onnxruntime/int8"
    assert choice.why == "it cannot load the original; latency_p50@1: 0.90x [0.85, 0.95] of it"


def test_a_server_that_can_load_nothing_that_passed_gets_nothing() -> None:
    field = (ORIGINAL, candidate("tensorflow/fp32", ratio(1.5)),
             candidate("onnxruntime/fp32", ratio(4.0), kind="onnx", status="rejected"))
    choice = choose(NEW_TRITON, field, OBJECTIVE)
    assert choice.candidate is None
    assert choice.why == "no candidate that it can load (onnx, tensorrt-plan) passed its gate"


def test_of_several_signatures_the_least_favourable_counts() -> None:
    field = (ORIGINAL, candidate("tensorflow/fp32", ratio(3.0), ratio(0.9)),
             candidate("tensorflow/bf16", ratio(1.4), ratio(1.5)))
    choice = choose(SERVING, field, OBJECTIVE)
    assert (choice.candidate, choice.why[:22]) == ("tensorflow/bf16", "latency_p50@1: 1.40x [")


def test_every_signature_s_interval_must_be_above_one() -> None:
    """The second signature's best guess is higher, but it may be 10 % slower than the original."""
    field = (ORIGINAL, candidate("tensorflow/fp32", Ratio(value=1.10, low=1.05, high=1.15),
                                 Ratio(value=1.12, low=0.90, high=1.40)))
    assert choose(SERVING, field, OBJECTIVE).candidate == "original"


def test_the_batch_size_of_the_objective_counts_and_a_fixed_one_stands_for_all() -> None:
    result = timed(ratio(2.0), sizes=(1, 8))
    slow = result.batches[1].model_copy(update={"ratios": {"throughput": ratio(0.5)}})
    fixed = result.batches[0].model_copy(update={"signature": "fixed", "batch_size": 4, "fixed": True,
                                                 "ratios": {"throughput": ratio(1.2)}})
    mixed = result.model_copy(update={"batches": (result.batches[0], slow, fixed)})
    assert mixed.ratio("throughput", 8).value == 0.5
    assert mixed.ratio("throughput", 1).value == 1.2


# --- Before any work ---


def test_a_triton_without_tensorflow_is_refused_before_work_where_only_savedmodels_are_made() -> None:
    with pytest.raises(ConfigError) as caught:
        check_targets(config(SERVING, NEW_TRITON), ["tensorflow/fp32", "tensorflow/bf16"])
    assert str(caught.value) == ("target triton 25.03 loads onnx, tensorrt-plan and no candidate makes that: add "
                                 "onnxruntime/fp32 to the candidates or name a version up to 25.02")


@pytest.mark.parametrize(("target", "candidates"), [
    (NEW_TRITON, ["tensorflow/fp32", "onnxruntime/int8"]), (OLD_TRITON, ["tensorflow/fp32"]),
    (SERVING, ["onnxruntime/fp32"])])
def test_targets_that_something_can_serve_are_accepted(target: Target, candidates: list[str]) -> None:
    check_targets(config(target), candidates)


# --- Parity against speed ---


def test_the_parity_error_is_the_largest_of_scaled_error_and_wrong_tokens() -> None:
    assert parity_error(candidate("a", verdict=judged(error=0.25))) == 0.25
    assert parity_error(candidate("a", verdict=judged(tokens=0.75))) == 0.25
    assert parity_error(candidate("a", verdict=judged(error=0.5, tokens=0.75))) == 0.5
    assert parity_error(candidate("a", verdict=judged())) == 0.0
    assert parity_error(candidate("a")) is None


def test_the_front_leaves_out_what_another_beats_in_both() -> None:
    field = [candidate("original", ratio(1.0), verdict=judged(error=0.0)),
             candidate("fast", ratio(4.0), verdict=judged(error=0.1)),
             candidate("beaten", ratio(1.5), verdict=judged(error=0.2)),
             candidate("middle", ratio(2.0), verdict=judged(error=0.01)),
             candidate("unjudged", ratio(9.0)),
             candidate("untimed", verdict=judged(error=0.0))]
    assert [c.name for c in pareto_front(field, OBJECTIVE)] == ["fast", "middle", "original"]


def test_equals_stand_on_the_front_together() -> None:
    field = [candidate(name, ratio(2.0), verdict=judged(error=0.1)) for name in ("a", "b")]
    assert [c.name for c in pareto_front(field, OBJECTIVE)] == ["a", "b"]


# --- Candidates that only a GPU can run ---

GPU_SERVING = Target(kind="tf-serving", version="2.14.1-gpu")
ESTIMATED = judged(error=0.001).model_copy(update={"estimate": Estimate(
    pending="no GPU here", surgery=SurgeryVerdict(passed=True, reason="", error=0.0))})


def test_of_accepted_estimates_the_narrowest_precision_goes_to_servers_with_a_gpu() -> None:
    field = (ORIGINAL, candidate("onnxruntime/fp32", ratio(4.0), kind="onnx"),
             *(candidate(f"tf-trt/{precision}", kind="tensorrt-savedmodel", verdict=ESTIMATED)
               for precision in ("fp32", "int8", "fp16")))
    choice = choose(GPU_SERVING, field, OBJECTIVE)
    assert choice.candidate == "tf-trt/int8"
    assert "has been measured on a GPU" in choice.why
    assert choose(SERVING, field, OBJECTIVE).candidate == "original", "a server without a GPU cannot load it"


def test_what_is_pending_is_not_published() -> None:
    pending = candidate("tf-trt/fp16", kind="tensorrt-savedmodel", verdict=ESTIMATED, status="rejected")
    field = (ORIGINAL, pending.model_copy(update={"status": "pending-gpu"}))
    assert choose(GPU_SERVING, field, OBJECTIVE).candidate == "original"


def test_one_that_was_measured_on_its_gpu_is_chosen_by_its_speed() -> None:
    field = (ORIGINAL, candidate("tf-trt/fp32", ratio(2.0), kind="tensorrt-savedmodel", verdict=judged(error=0.0)),
             candidate("tf-trt/fp16", ratio(3.0), kind="tensorrt-savedmodel", verdict=judged(error=0.001)))
    assert choose(GPU_SERVING, field, OBJECTIVE).candidate == "tf-trt/fp16"


# --- Candidates of several forms ---

TRITON = Target(kind="triton", version="24.10")


def engine(name: str, *ratios: Ratio, tensorrt: str = "10.5.0.18", verdict: Verdict | None = None) -> CandidateResult:
    """A plan and the SavedModel with the same engine in it; no ``tensorrt`` for one that is not built."""
    plain = candidate(name, *ratios, kind="tensorrt-plan", verdict=verdict or judged(error=0.001))
    assert plain.artifact
    made = plain.artifact.model_copy(update={
        "files": {"s0": "s0/model.plan" if tensorrt else "s0/model.onnx"},
        "built": {"gpu": "A100", "tensorrt": tensorrt} if tensorrt else {},
        "also": {"tensorrt-savedmodel": {"s0": "graft"}} if tensorrt else {}})
    return plain.model_copy(update={"artifact": made})


def test_each_target_gets_the_form_that_it_can_load() -> None:
    fast = engine("tensorrt/fp16", ratio(5.0))
    for target, kind in ((TRITON, "tensorrt-plan"), (NEW_TRITON, "tensorrt-plan"),
                         (GPU_SERVING, "tensorrt-savedmodel")):
        assert choose(target, (ORIGINAL, fast), OBJECTIVE).candidate == "tensorrt/fp16"
        form = form_for(target, fast)
        assert form
        assert (form.kind, form.also) == (kind, {})
    assert form_for(GPU_SERVING, fast).files == {"s0": "graft"}  # type: ignore[union-attr]
    assert form_for(SERVING, fast) is None
    assert choose(SERVING, (ORIGINAL, fast), OBJECTIVE).candidate == "original"


def test_the_choice_says_what_was_timed_and_which_tensorrt_the_server_has_to_have() -> None:
    fast = engine("tensorrt/fp16", ratio(5.0), tensorrt="8.5.3.1")
    why = choose(GPU_SERVING, (ORIGINAL, fast), OBJECTIVE).why
    assert "timed as a tensorrt-plan" in why
    assert "want TensorRT 8.5.3.1" in why
    assert "tf-serving 2.14.1-gpu has 8.4.3" in why
    same = choose(TRITON, (ORIGINAL, engine("tensorrt/fp16", ratio(5.0))), OBJECTIVE)
    assert same.why == "latency_p50@1: 5.00x [4.95, 5.05] of the original"


def test_a_plan_of_another_tensorrt_is_left_out_and_the_choice_names_both() -> None:
    choice = choose(TRITON, (ORIGINAL, engine("tensorrt/fp16", ratio(5.0), tensorrt="10.7.0.23"),
                             candidate("onnxruntime/fp32", ratio(2.0), kind="onnx")), OBJECTIVE)
    assert choice.candidate == "onnxruntime/fp32"
    assert ("tensorrt/fp16 is left out: it was built with TensorRT 10.7.0.23 and triton 24.10 has 10.5.0.18"
            in choice.why)


def test_an_engine_that_is_not_built_is_not_published_whatever_was_accepted() -> None:
    pending = engine("tensorrt/int8", tensorrt="", verdict=ESTIMATED)
    choice = choose(TRITON, (ORIGINAL, pending), OBJECTIVE)
    assert choice.candidate == "original"
    assert "tensorrt/int8 is left out: its engine is not built yet" in choice.why
    assert choose(NEW_TRITON, (pending,), OBJECTIVE).candidate is None
