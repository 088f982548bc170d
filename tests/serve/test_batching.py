"""Dynamic batching of a real model that says how many rows it was given at once."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import numpy as np
import pytest

from trt_pipeline.backends.base import Array
from trt_pipeline.serve import servable as loading
from trt_pipeline.serve.batching import Batching
from trt_pipeline.serve.batching_parameters import BatchingParameters
from trt_pipeline.serve.refusal import Code, RefusalError
from trt_pipeline.serve.servable import Servable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
Answers = list[Any]


class Gated:
    """A servable whose runs begin when the gate is open; it counts them."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.name, self.version = servable.name, servable.version
        self.contract, self.signature_defs = servable.contract, servable.signature_defs
        self.padding: dict[str, int] = {}
        self.gate = threading.Event()
        self.runs: list[int] = []
        self.at_once = self.most_at_once = self.ended = 0
        self._counting = threading.Lock()

    def infer(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with self._counting:
            self.runs.append(next(iter(feeds.values())).shape[0] if feeds else 0)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.gate.wait(60)
            return self._servable.infer(signature, feeds)
        finally:
            with self._counting:
                self.at_once -= 1
                self.ended += 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Servable:  # noqa: C901  (a function for each signature)
    import tensorflow as tf

    def given(shape: list[int | None], dtype: Any = tf.float32) -> list[Any]:
        return [tf.TensorSpec(shape, dtype, "x")]

    def together(x: Any) -> Any:
        return tf.fill(tf.shape(x)[:1], tf.shape(x)[0])

    class Toy(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=given([None, None]))
        def double(self, x: Any) -> Any:
            return {"y": 2.0 * x, "together": together(x)}

        @tf.function(input_signature=given([None], tf.string))
        def words(self, x: Any) -> Any:
            return {"y": tf.strings.upper(x), "together": together(x)}

        @tf.function(input_signature=given([None], tf.int32))
        def pick(self, x: Any) -> Any:
            return {"y": tf.gather(tf.constant([10, 20, 30]), x), "together": together(x)}

        @tf.function(input_signature=given([None]))
        def total(self, x: Any) -> Any:
            return {"y": tf.reduce_sum(x)}

        @tf.function(input_signature=given([None]))
        def one(self, x: Any) -> Any:
            return {"y": tf.reduce_sum(x, keepdims=True)}

        @tf.function(input_signature=given([None, 4]))
        def four(self, x: Any) -> Any:
            return {"y": 2.0 * x}

        @tf.function(input_signature=given([2]))
        def fixed(self, x: Any) -> Any:
            return {"together": together(x)}

        @tf.function(input_signature=[*given([None]), tf.TensorSpec([None], tf.float32, "z")])
        def pair(self, x: Any, z: Any) -> Any:
            return {"y": x + z}

    toy, folder = Toy(), tmp_path_factory.mktemp("batching") / "1"
    tf.saved_model.save(toy, str(folder), signatures={
        name: getattr(toy, name) for name in ("double", "words", "pick", "total", "one", "fixed", "pair", "four")})
    return loading.load("toy", 1, folder)


@pytest.fixture
def gated(model: Servable) -> Gated:
    return Gated(model)


def rows(*lengths: int, width: int = 2, first: float = 1.0) -> list[Array]:
    return [np.arange(first, first + n * width, dtype=np.float32).reshape(n, width) for n in lengths]


def run(work: Callable[[Batching], Coroutine[Any, Any, Any]], threads: int = 1, **parameters: Any) -> Any:
    """What ``work`` comes to with a `Batching` of these parameters."""
    async def whole() -> Any:
        batching = Batching(BatchingParameters(**parameters), threads)
        try:
            return await asyncio.wait_for(work(batching), 60)
        finally:
            await batching.close()

    return asyncio.run(whole())


def held(gated: Gated, signature: str, values: list[Array], threads: int = 1, **parameters: Any) -> Answers:
    """Answers, or refusals, to ``values``, all asked for while ``threads`` first requests are held up in the model."""
    async def work(batching: Batching) -> Answers:
        first = [asyncio.create_task(batching.infer(gated, signature, {"x": values[0]}))  # type: ignore[arg-type]
                 for _ in range(threads)]
        await until(lambda: bool(gated.runs))
        asked = [asyncio.create_task(batching.infer(gated, signature, {"x": value}))  # type: ignore[arg-type]
                 for value in values]
        await asyncio.sleep(0)
        gated.gate.set()
        await asyncio.gather(*first, return_exceptions=True)
        return await asyncio.gather(*asked, return_exceptions=True)

    return run(work, threads, **parameters)


async def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def code_of(answer: object) -> Code:
    assert isinstance(answer, RefusalError), answer
    return answer.code


def test_requests_that_wait_run_as_one_and_each_gets_its_own_rows(gated: Gated) -> None:
    values = rows(1, 3, 2)
    answers = held(gated, "double", values)
    for value, answer in zip(values, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * value)
        assert answer["together"].tolist() == [6] * len(value)
    assert gated.runs == [1, 6]


def test_strings_are_batched_too(gated: Gated) -> None:
    answers = held(gated, "words", [np.array([b"a", b"b"], object), np.array([b"\xff long"], object)])
    assert [answer["y"].tolist() for answer in answers] == [[b"A", b"B"], [b"\xff LONG"]]
    assert answers[0]["together"].tolist() == [3, 3]


def test_an_idle_server_does_not_wait_for_more(gated: Gated) -> None:
    gated.gate.set()
    answer = run(lambda batching: batching.infer(gated, "double", {"x": rows(1)[0]}))  # type: ignore[arg-type]
    assert answer["together"].tolist() == [1]


def test_with_a_timeout_it_waits_until_then_or_until_the_batch_is_full(gated: Gated) -> None:
    gated.gate.set()

    async def asked(batching: Batching, count: int) -> list[int]:
        answers = await asyncio.gather(*(batching.infer(gated, "double", {"x": value})  # type: ignore[arg-type]
                                         for value in rows(*[1] * count)))
        return [answer["together"][0] for answer in answers]

    assert run(lambda b: asked(b, 4), max_batch_size=4, batch_timeout_micros=10**9) == [4] * 4
    began = time.monotonic()
    assert run(lambda b: asked(b, 3), max_batch_size=4, batch_timeout_micros=200_000) == [3] * 3
    assert time.monotonic() - began >= 0.2


def test_no_batch_is_larger_than_allowed(gated: Gated) -> None:
    held(gated, "double", rows(3, 2, 1, 4), max_batch_size=4)
    assert gated.runs == [3, 3, 3, 4]


def test_batches_are_filled_up_to_an_allowed_size(gated: Gated) -> None:
    values = rows(1, 2)
    answers = held(gated, "double", values, max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    assert gated.runs == [2, 4]
    for value, answer in zip(values, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * value)


def test_shapes_that_differ_are_run_apart(gated: Gated) -> None:
    answers = held(gated, "double", [*rows(1, 1), *rows(1, 1, width=3), *rows(1)])
    assert [int(answer["together"][0]) for answer in answers] == [3, 3, 2, 2, 3]


def test_they_are_lengthened_with_their_own_first_value_where_that_is_asked_for(gated: Gated) -> None:
    answers = held(gated, "double", [*rows(1, first=7), *rows(1, width=4)], pad_variable_length_inputs=True)
    assert [answer["y"].tolist() for answer in answers] == [[[14, 16, 14, 14]], [[2, 4, 6, 8]]]


def test_inputs_with_padding_get_that_instead_and_share_batches_with_lengths_like_theirs(gated: Gated) -> None:
    gated.padding = {"x": -1}
    values = [*rows(1, width=3), *rows(1, width=4), *rows(1, width=5), *rows(1, width=8)]
    answers = held(gated, "double", values)
    assert [answer["y"].tolist() for answer in answers] == [
        [[2, 4, 6, -2]], [[2, 4, 6, 8]], [[2, 4, 6, 8, 10, -2, -2, -2]], [[2, 4, 6, 8, 10, 12, 14, 16]]]
    assert gated.runs == [1, 2, 2], "3 and 4, 5 and 8"


def test_what_is_cut_keeps_its_length(gated: Gated) -> None:
    gated.padding = {"x": -1}
    answers = held(gated, "double", [*rows(3, width=3), *rows(1, width=4)], max_batch_size=4,
                   max_execution_batch_size=2, enable_large_batch_splitting=True)
    assert [answer["y"].shape for answer in answers] == [(3, 3), (1, 4)]


def test_a_length_that_the_signature_fixes_is_not_padded_to(gated: Gated) -> None:
    gated.padding = {"x": -1}
    four, three = held(gated, "four", [*rows(1, width=4), *rows(1, width=3)])
    assert four["y"].tolist() == [[2, 4, 6, 8]]
    assert three["y"].tolist() == [[2, 4, 6]], "as TensorFlow answers what it does not refuse"


def test_an_empty_input_is_not_lengthened(gated: Gated) -> None:
    answers = held(gated, "double", [*rows(1), *rows(1, width=0)], pad_variable_length_inputs=True)
    assert [answer["y"].tolist() for answer in answers] == [[[2, 4]], [[]]]


def test_a_request_larger_than_a_batch_is_refused(gated: Gated) -> None:
    small, large = held(gated, "double", rows(4, 5), max_batch_size=4)
    assert small["together"].tolist() == [4] * 4
    assert (code_of(large), large.message) == (
        Code.INVALID_ARGUMENT, "Task size 5 is larger than maximum input batch size 4")


def test_large_requests_are_cut_where_that_is_asked_for(gated: Gated) -> None:
    values = rows(1, 7)
    answers = held(gated, "double", values, max_batch_size=8, max_execution_batch_size=3,
                   enable_large_batch_splitting=True)
    np.testing.assert_array_equal(answers[1]["y"], 2 * values[1])
    assert max(gated.runs) <= 3


@pytest.mark.parametrize(("signature", "said"), [
    ("total", "Batched output tensor has 0 dimensions"),
    ("one", "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
            "tensors")])
def test_outputs_without_a_row_for_each_row_are_refused(gated: Gated, signature: str, said: str) -> None:
    value = np.ones(2, np.float32)
    answers = held(gated, signature, [value, value])
    assert [(code_of(answer), answer.message) for answer in answers] == [(Code.FAILED_PRECONDITION, said)] * 2
    assert gated.runs == [2, 4], "it is not tried again"


def test_inputs_of_unequal_length_are_refused(gated: Gated) -> None:
    async def work(batching: Batching) -> Any:
        feeds = {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)}
        with pytest.raises(RefusalError, match="must have equal 0th-dimension size"):
            await batching.infer(gated, "pair", feeds)  # type: ignore[arg-type]
        with pytest.raises(RefusalError, match="must have at least one dimension"):
            await batching.infer(gated, "pair", feeds | {"z": np.float32(1).reshape(())})  # type: ignore[arg-type]
        with pytest.raises(RefusalError, match="input size does not match signature"):
            await batching.infer(gated, "pair", {"x": feeds["x"]})  # type: ignore[arg-type]

    run(work)
    assert gated.runs == []


def test_what_one_request_does_wrong_its_neighbours_do_not_feel(gated: Gated) -> None:
    values = [np.array(ids, np.int32) for ids in ([0], [2, 1], [7], [2])]
    answers = held(gated, "pick", values)
    assert code_of(answers.pop(2)) == Code.INVALID_ARGUMENT
    assert [answer["y"].tolist() for answer in answers] == [[10], [30, 20], [30]]


def test_inputs_of_another_type_or_rank_spoil_no_batch(gated: Gated) -> None:
    answers = held(gated, "double", [*rows(1, 1), np.ones((1, 2), np.int64), np.ones(3, np.float32)])
    assert code_of(answers.pop(2)) == Code.INVALID_ARGUMENT
    assert [int(answer["together"][0]) for answer in answers] == [2, 2, 3]


def test_signatures_of_a_fixed_batch_run_alone(gated: Gated) -> None:
    answers = held(gated, "fixed", [np.ones(2, np.float32)] * 3, max_batch_size=8, allowed_batch_sizes=(8,))
    assert [answer["together"].tolist() for answer in answers] == [[2, 2]] * 3


def test_what_waits_beyond_the_queue_is_refused_whatever_its_shape(gated: Gated) -> None:
    values = [np.ones((1, width), np.float32) for width in range(1, 8)]
    answers = held(gated, "double", values, max_batch_size=2, max_enqueued_batches=2)
    assert [int(answer["together"][0]) for answer in answers[:4]] == [1] * 4
    assert {(code_of(answer), answer.message) for answer in answers[4:]} == {
        (Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full; "
                           "currently 2 batches enqueued and max_enqueued_batches is 2")}


def test_as_many_batches_run_at_once_as_there_are_threads(gated: Gated) -> None:
    held(gated, "double", rows(*[2] * 12), threads=3, max_batch_size=2, max_enqueued_batches=12)
    assert gated.most_at_once == 3


def test_a_request_cancelled_while_it_waits_is_never_run(gated: Gated) -> None:
    async def work(batching: Batching) -> None:
        first, gone, stays = [asyncio.create_task(batching.infer(gated, "double", {"x": value}))  # type: ignore[arg-type]
                              for value in rows(1, 1, 1, width=1)]
        await asyncio.sleep(0)
        gone.cancel()
        gated.gate.set()
        assert (await stays)["together"].tolist() == [2]
        await first
        assert gone.cancelled()

    run(work)
    assert gated.runs == [2]


@pytest.mark.parametrize("parameters", [BatchingParameters(), None])
def test_a_request_cancelled_while_it_runs_holds_the_model_until_it_ends(
        gated: Gated, parameters: BatchingParameters | None) -> None:
    async def work() -> None:
        batching = Batching(parameters, 1)
        asked = asyncio.create_task(batching.infer(gated, "double", {"x": rows(1)[0]}))  # type: ignore[arg-type]
        await until(lambda: bool(gated.runs))
        asked.cancel()
        await asyncio.sleep(0.05)
        assert not asked.done()
        gated.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert gated.ended == 1
        await batching.close()

    asyncio.run(work())


def test_closing_refuses_what_waits_and_what_comes(gated: Gated) -> None:
    async def work() -> None:
        batching = Batching(BatchingParameters(max_batch_size=1), 1)
        runs, waits = [asyncio.create_task(batching.infer(gated, "double", {"x": value}))  # type: ignore[arg-type]
                       for value in rows(1, 1)]
        await until(lambda: bool(gated.runs))
        closing = asyncio.create_task(batching.close())
        with pytest.raises(RefusalError) as refused:
            await waits
        assert refused.value.code == Code.UNAVAILABLE
        gated.gate.set()
        assert (await runs)["together"].tolist() == [1]
        await closing
        with pytest.raises(RefusalError) as refused:
            await batching.infer(gated, "double", {"x": rows(1)[0]})  # type: ignore[arg-type]
        assert refused.value.code == Code.UNAVAILABLE

    asyncio.run(work())


def test_without_parameters_every_request_runs_alone(gated: Gated) -> None:
    async def work() -> None:
        batching, value = Batching(None, 2), rows(1)[0]
        gated.gate.set()
        answers = await asyncio.gather(*(batching.infer(gated, "double", {"x": value})  # type: ignore[arg-type]
                                         for _ in range(8)))
        assert [answer["together"].tolist() for answer in answers] == [[1]] * 8
        await batching.close()

    asyncio.run(work())
    assert gated.most_at_once <= 2


def test_shapes_of_all_kinds_leave_nothing_behind(gated: Gated) -> None:
    gated.gate.set()
    known: list[weakref.ref[Any]] = []

    async def work(batching: Batching) -> None:
        before = threading.active_count()
        for start in range(1, 600, 30):
            values = [np.ones((1, width), np.float32) for width in range(start, start + 30)]
            known.extend(map(weakref.ref, values))
            await asyncio.gather(*(batching.infer(gated, "double", {"x": value})  # type: ignore[arg-type]
                                   for value in values))
            del values
        assert threading.active_count() <= before + 2
        gc.collect()
        assert not [ref for ref in known if ref() is not None]

    run(work, threads=2)
    assert len(known) == 600
