"""A candidate is judged by name, on every case, and rejected with a reason that says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.builders import FunctionRunner, World
from trt_pipeline.parity.judge import judge
from trt_pipeline.parity.tolerance import Close, Gate, Match

Outputs = dict[str, np.ndarray]
WEIGHTS = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)


def two_heads(x: np.ndarray) -> Outputs:
    return {"left": x @ WEIGHTS[0], "right": x @ WEIGHTS[1]}


def tokens(x: np.ndarray) -> Outputs:
    return {"tokens": np.argsort(x, axis=1).astype(np.int32)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, two_heads)


def test_the_original_passes_its_own_gate(world: World) -> None:
    verdict = world.judge(two_heads)
    assert (verdict.passed, verdict.reason) == (True, "")
    assert [(o.signature, o.output, o.passed) for o in verdict.outputs] == [
        ("serve", "left", True), ("serve", "right", True)]
    assert [f.group for f in verdict.outputs[0].figures] == ["all", "batch 1", "batch odd", "batch max", "samples"]
    assert verdict.outputs[0].figures[0].elements == (1 + 3 + 4 + 10) * 5


def test_outputs_are_matched_by_name_not_by_position(world: World) -> None:
    assert world.judge(lambda x: dict(reversed(two_heads(x).items()))).passed


def test_swapped_heads_of_equal_shape_are_rejected(world: World) -> None:
    verdict = world.judge(lambda x: {"left": x @ WEIGHTS[1], "right": x @ WEIGHTS[0]})
    assert not verdict.passed
    assert [output.passed for output in verdict.outputs] == [False, False]
    assert verdict.reason.startswith("serve.left: 90 of 90 elements outside close: scaled 7.63e-06; worst: ")


@pytest.mark.parametrize("precision", ["fp32", "native"])
def test_an_output_scaled_by_a_hundredth_is_rejected_at_full_precision(world: World, precision: str) -> None:
    verdict = world.judge(lambda x: two_heads(x) | {"right": two_heads(x)["right"] * np.float32(1.01)}, None, precision)
    assert [output.passed for output in verdict.outputs] == [True, False]


def test_the_same_output_passes_at_int8(world: World) -> None:
    assert world.judge(lambda x: {k: v * np.float32(1.01) for k, v in two_heads(x).items()}, precision="int8").passed


def test_a_bug_that_needs_a_batch_is_found_and_named(tmp_path: Path) -> None:
    world = World(tmp_path, two_heads)

    def first_row_for_all(x: np.ndarray) -> Outputs:
        return two_heads(np.broadcast_to(x[:1], x.shape))

    verdict = world.judge(first_row_for_all)
    figures = {f.group: f.violations for f in verdict.outputs[0].figures}
    assert figures["batch 1"] == 0
    assert min(figures["batch odd"], figures["batch max"], figures["samples"]) > 0
    assert not verdict.passed


def test_the_corner_and_the_sample_of_a_bug_at_the_largest_batch_are_named(world: World) -> None:
    def third_of_four(x: np.ndarray) -> Outputs:
        answer = two_heads(x)
        if len(x) == 4:
            answer["left"][2, 1] = 1e6
        return answer

    verdict = world.judge(third_of_four)
    worst = verdict.outputs[0].worst
    assert worst is not None
    assert (worst.case, worst.sample, worst.index, worst.got) == ("batch max [0..3]", 2, (1,), "1000000")
    assert "worst: batch max [0..3], sample 2, index [1]" in verdict.reason


def test_the_sample_is_right_where_the_largest_batch_begins_the_samples_again(tmp_path: Path) -> None:
    world = World(tmp_path, two_heads, max_batch_size=13)

    def last_row(x: np.ndarray) -> Outputs:
        answer = two_heads(x)
        if len(x) == 13:
            answer["left"][12] = 1e6
        return answer

    worst = world.judge(last_row).outputs[0].worst
    assert worst is not None
    assert worst.sample == 2  # row 12 of 10 samples
    assert worst.expected == f"{two_heads(world.x[2:3])['left'][0, worst.index[0]]:.7g}"


def test_a_missing_output_is_rejected(world: World) -> None:
    verdict = world.judge(lambda x: {"left": two_heads(x)["left"]})
    assert (verdict.passed, verdict.reason) == (False, "serve: output 'right' is missing")


def test_an_output_too_many_is_rejected(world: World) -> None:
    verdict = world.judge(lambda x: two_heads(x) | {"middle": x})
    assert (verdict.passed, verdict.reason) == (False, "serve: output 'middle' is not in the contract")


def test_a_candidate_that_raises_is_rejected_with_the_case_and_its_first_line(world: World) -> None:
    def no_batches(x: np.ndarray) -> Outputs:
        if len(x) > 1:
            raise RuntimeError("batch too large\nstack trace")
        return two_heads(x)

    verdict = world.judge(no_batches)
    assert (verdict.passed, verdict.reason) == (False, "batch odd [0..2]: RuntimeError: batch too large")


@pytest.mark.parametrize(("change", "reason"), [
    (lambda a: a.astype(np.float64), "serve.left: dtype float64 instead of float32 (batch 1 [5])"),
    (lambda a: a[:, :, None], "serve.left: shape [1, 5, 1] instead of [1, 5] (batch 1 [5])"),
    (lambda a: a[0], "serve.left: shape [5] instead of [1, 5] (batch 1 [5])"),
])
def test_another_dtype_or_shape_is_rejected(world: World, change: object, reason: str) -> None:
    verdict = world.judge(lambda x: two_heads(x) | {"left": change(two_heads(x)["left"])})  # type: ignore[operator]
    assert (verdict.passed, verdict.reason) == (False, reason)


def test_one_wrong_token_is_rejected_by_default_and_accepted_where_the_gate_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, tokens)

    def one_off(x: np.ndarray) -> Outputs:
        answer = tokens(x)
        answer["tokens"][(x == world.x[7]).all(axis=1), 0] += 1
        return answer

    # The 54 tokens of the run (18 rows of 3) hold sample 7 once, among the samples.
    verdict = world.judge(one_off, precision="int8")
    assert verdict.reason.startswith("serve.tokens: 1 of 54 elements not equal; worst: samples [5..9], sample 7, index")
    assert world.judge(one_off, Gate.model_validate({"outputs": {"tokens": Match(0.95)}})).passed


def test_the_gate_of_one_signature_and_precision_is_the_one_applied(world: World) -> None:
    def worse(x: np.ndarray) -> Outputs:
        return {name: value + np.float32(0.01) for name, value in two_heads(x).items()}

    loose = {"close": {"atol": 0.1}}
    gate = Gate.model_validate({"outputs": {"left": {"exact": True}, "serve.left": loose},
                                "precisions": {"int8": {"right": loose}}})
    assert [o.passed for o in world.judge(worse, gate, "fp32").outputs] == [True, False]
    assert [o.passed for o in world.judge(worse, gate, "int8").outputs] == [True, True]


def test_strings_and_booleans_survive_the_store_and_are_judged(tmp_path: Path) -> None:
    def named(x: np.ndarray) -> Outputs:
        return {"names": np.array([b"" if row[0] > 0 else b"minus\0" for row in x], object), "signs": x > 0}

    world = World(tmp_path, named)
    assert world.judge(named).passed
    verdict = world.judge(lambda x: named(x) | {"signs": x <= 0})
    assert [output.passed for output in verdict.outputs] == [True, False]


def test_an_original_in_bfloat16_passes_its_own_gate_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    world = World(tmp_path, lambda x: {"y": (x + 4).astype(bfloat16)})
    assert world.judge(lambda x: {"y": (x + 4).astype(bfloat16)}, precision="bf16").passed
    assert world.judge(lambda x: {"y": ((x + 4) * 1.002).astype(bfloat16)}, precision="bf16").passed
    assert not world.judge(lambda x: {"y": (x - 4).astype(bfloat16)}, precision="bf16").passed


def test_progress_is_told_case_by_case(world: World) -> None:
    told: list[tuple[int, int]] = []
    with FunctionRunner(world.contract, two_heads) as runner:
        judge(runner, world.reference, world.folder, {"serve": world.samples}, Gate(), "fp32",
              lambda done, total: told.append((done, total)))
    assert told == [(number, 5) for number in range(1, 6)]


def test_a_verdict_survives_json(world: World) -> None:
    verdict = world.judge(lambda x: {k: v * np.nan for k, v in two_heads(x).items()},
                          Gate.model_validate({"outputs": {"left": Close(atol=1)}}))
    assert not verdict.passed
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict
