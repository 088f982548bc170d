"""The samples that a report shows of an output: those that differ most, each once, with what they were fed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.builders import FunctionRunner, World
from trt_pipeline.parity.compare import OutputComparison
from trt_pipeline.parity.excerpt import WorstSample, excerpt
from trt_pipeline.parity.judge import judge
from trt_pipeline.parity.tolerance import Close, Gate, Match, OutputGate, TopK
from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples
from trt_pipeline.vocabulary import Vocabulary

EXACT = OutputGate(exact=True)


def worst(expected: Any, got: Any, gate: OutputGate, scale: float = 1.0) -> tuple[WorstSample, ...]:
    """The worst samples of one batch."""
    comparison = OutputComparison("serve", "out", gate, scale)
    expected, got = np.asarray(expected), np.asarray(got)
    comparison.add("samples [0..9]", "samples", range(len(expected)), expected, got)
    return comparison.verdict().samples


def test_the_five_worst_in_order_and_none_that_is_equal() -> None:
    expected = np.zeros((8, 3), np.float32)
    got = expected.copy()
    got[:, 1] = [0.5, 0, 2, 0.25, 4, 1, 3, 0]
    found = worst(expected, got, OutputGate(close=Close(atol=0.5)))
    assert [(one.sample, one.excess) for one in found] == [(4, 8), (6, 6), (2, 4), (5, 2), (0, 1)]
    assert (found[0].expected.values, found[0].got.values) == ((0, 0, 0), (0, 4, 0))
    assert (found[0].got.dtype, found[0].got.shape, found[0].got.start) == ("float32", (3,), 0)
    assert worst(expected, expected, OutputGate(close=Close(atol=0.5))) == ()


def test_a_sample_of_several_cases_is_shown_once_as_it_was_worst() -> None:
    comparison = OutputComparison("serve", "out", OutputGate(close=Close(atol=1)), 1.0)
    for case, rows, errors in (("batch 1 [3]", (3,), [2]), ("batch max [0..3]", (0, 1, 2, 3, 0), [1, 0, 0, 5, 9]),
                               ("samples [0..3]", (0, 1, 2, 3), [3, 0, 0.5, 4])):
        got = np.array(errors, np.float64)[:, None]
        comparison.add(case, case.partition(" [")[0], rows, np.zeros_like(got), got)
    assert [(one.sample, one.case, one.excess) for one in comparison.verdict().samples] == [
        (0, "batch max [0..3]", 9), (3, "batch max [0..3]", 5), (2, "samples [0..3]", 0.5)]


def test_only_five_are_kept_whatever_the_order_of_the_cases() -> None:
    comparison = OutputComparison("serve", "out", OutputGate(close=Close(atol=1)), 1.0)
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 41.0))
    for start in range(0, 40, 4):
        got = errors[start:start + 4, None]
        comparison.add("samples", "samples", range(start, start + 4), np.zeros_like(got), got)
    found = comparison.verdict().samples
    assert [one.excess for one in found] == [40, 39, 38, 37, 36]
    assert [errors[one.sample] for one in found if one.sample is not None] == [40, 39, 38, 37, 36]


def test_of_a_long_row_the_values_around_its_worst_element() -> None:
    expected = np.zeros((2, 1000), np.float32)
    got = expected.copy()
    got[1, 700] = 7
    (one,) = worst(expected, got, OutputGate(close=Close(atol=1)))
    assert (one.got.shape, len(one.got.values), one.got.start) == ((1000,), 64, 668)
    assert one.got.values[700 - 668] == 7 and one.expected.start == 668
    got[1, 999] = 8
    (one,) = worst(expected, got, OutputGate(close=Close(atol=1)))
    assert (one.got.start, one.got.values[-1]) == (936, 8)


@pytest.mark.parametrize(("gate", "excess"), [
    (OutputGate(match=Match(0.9, pad=0)), [2.5, 10.0]),  # a quarter, and all of it
    (OutputGate(match=Match(1.0, pad=0)), [None, None]),
    (EXACT, [None, None]),
])
def test_tokens_by_the_share_that_differs_over_what_the_gate_allows(gate: OutputGate, excess: list[float]) -> None:
    expected = np.array([[3, 4, 5, 6, 0, 0], [3, 4, 0, 0, 0, 0], [7, 8, 9, 0, 0, 0]])
    got = np.array([[3, 4, 5, 7, 0, 0], [4, 3, 0, 0, 0, 0], [7, 8, 9, 0, 0, 0]])
    found = worst(expected, got, gate)
    assert sorted((one.sample for one in found), key=str) == [0, 1]
    assert sorted((one.excess for one in found), key=str) == sorted(excess, key=str)
    if gate.match:
        assert [one.sample for one in found] == [1, 0], "the larger share first, whatever the bound"


def test_rows_of_another_width_keep_their_own() -> None:
    (one,) = worst(np.array([[3, 4, 0]]), np.array([[3, 4, 5, 6, 0]]), OutputGate(match=Match(0.5, pad=0)))
    assert (one.expected.shape, one.got.shape) == ((3,), (5,))
    assert (one.got.values, one.excess) == ((3, 4, 5, 6, 0), 1.0)  # 2 of 4 differ, and half may


def test_where_only_the_whole_is_bounded_errors_are_shares_of_its_magnitude() -> None:
    found = worst([[4.0, 0], [4, 0]], [[4.0, 1], [2, 0]], OutputGate(close=Close(cosine=0.5)), scale=4.0)
    assert [(one.sample, one.excess) for one in found] == [(1, 0.5), (0, 0.25)]


def test_of_top_k_the_samples_whose_choice_differs() -> None:
    scores = [[0.1, 0.9], [0.4, 0.6], [0.3, 0.7]]
    found = worst(scores, [[0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], OutputGate(top_k=TopK(k=1, agreement=0.5)))
    assert [(one.sample, one.excess, one.got.values) for one in found] == [(1, 2.0, (0.6, 0.4))]


def test_an_output_without_a_row_a_sample_is_shown_whole() -> None:
    comparison = OutputComparison("serve", "out", OutputGate(close=Close(atol=1)), 1.0)
    comparison.add("samples [0..3]", "samples", range(4), np.float32(1), np.float32(4))
    comparison.add("samples [0..1]", "samples", range(2), np.zeros(3), np.ones(3))
    found = comparison.verdict().samples
    assert [(one.sample, one.excess, one.got.shape) for one in found] == [(None, 3, ()), (None, 1, (3,))]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_json_has_no_number_for_survives_it(value: float) -> None:
    (one,) = worst(np.zeros((1, 2), np.float32), np.array([[1, value]], np.float32), OutputGate(close=Close(atol=1)))
    assert one.excess is None
    assert one.got.values == (1, str(value))
    assert WorstSample.model_validate(json.loads(json.dumps(one.model_dump(mode="json"), allow_nan=False))) == one


@pytest.mark.parametrize(("array", "dtype", "values"), [
    (np.array([b"a", b"\xff"], object), "string", ("a", "\\xff")),
    (np.array([b"x" * 300], object), "string", ("x" * 199 + "…",)),
    (np.array([True, False]), "bool", (True, False)),
    (np.array([2**64 - 1], np.uint64), "uint64", (2**64 - 1,)),
    (np.array([0.1], np.float32), "float32", (0.1,)),
    (np.array([1 + 2j], np.complex64), "complex64", ("1+2j",)),
    (np.zeros((0, 2), np.float16), "float16", ()),
])
def test_excerpts_of_every_kind_of_tensor(array: Any, dtype: str, values: tuple[Any, ...]) -> None:
    made = excerpt(array)
    assert (made.dtype, made.shape, made.values, made.text) == (dtype, array.shape, values, None)
    again = type(made).model_validate_json(made.model_dump_json())
    assert again == made and list(map(type, again.values)) == list(map(type, made.values))


def translated(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"ids": np.where(x > 0, x + 1, 0).astype(np.int32)}


def test_the_judge_shows_what_was_fed_and_both_texts(tmp_path: Path) -> None:
    """Three sentences of unequal length; of one the candidate says another word."""
    world = World(tmp_path, lambda x: {"ids": np.zeros((len(x), 3), np.int32)})
    x = np.array([[2, 3, 0], [2, 4, 5], [3, 0, 0]], np.int64)
    store.write({"x": x}, tmp_path / "sentences")
    samples = Samples(tmp_path / "sentences", {"x": 0})
    reference = world.reference.model_copy(update={"cases": tuple(
        world.reference.cases[0].model_copy(update={"rows": rows, "group": "samples"}) for rows in ((0, 1), (1, 2)))})
    for number, case in enumerate(reference.cases):
        store.write(translated(samples.take(case.rows)["x"]), world.folder / f"{number}")
    words = Vocabulary(dict(enumerate(["<pad>", "</s>", "▁one", "▁two", "▁three", "▁four", "▁five"])))

    def another_word(x: np.ndarray) -> dict[str, np.ndarray]:
        answer = translated(x)
        answer["ids"][answer["ids"] == 5] = 2
        return answer

    with FunctionRunner(world.contract, another_word) as runner:
        verdict = judge(runner, reference, world.folder, {"serve": samples},
                        Gate.model_validate({"outputs": {"ids": Match(0.5, pad=0)}}), "int8",
                        vocabularies={"x": words, "serve.ids": words})
    (one,) = verdict.outputs[0].samples
    assert (one.sample, one.case, one.excess) == (1, "samples [0..1]", pytest.approx(2 / 3, rel=1e-5))
    assert (one.inputs["x"].values, one.inputs["x"].text) == ((2, 4, 5), "one three four")
    assert (one.expected.text, one.got.text) == ("two four five", "two one five")
    with FunctionRunner(world.contract, lambda x: {"ids": translated(x)["ids"][:, ::-1]}) as runner:
        verdict = judge(runner, reference, world.folder, {"serve": samples}, Gate(), "int8")
    shown = {one.sample: one for one in verdict.outputs[0].samples}
    assert shown[2].inputs["x"].shape == (1,), "in its own length"
    assert shown[2].got.text is None
    assert not verdict.passed
