"""A published repository in the real Triton: loading, unloading, new versions, errors, warm-up, metrics."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.triton import perf_analyzer, tiny
from tests.triton.served import ask, client
from tests.triton.triton_server import Triton, serving

ONES = np.ones((1, tiny.WIDTH), np.float32)
NO_WORD = tiny.WORDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published") / "serving"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Triton]:
    """Told what to load; ``embed`` and ``echo`` are there from the start."""
    tiny.publish(tiny.embed(), tiny.EMBED, folder, "embed", requests=[{"ids": np.array([[1, 2, 3], [4, 5, 6]])}])
    tiny.publish(tiny.echo(), tiny.ECHO, folder, "echo", requests=[{"text": np.array([b"a word", b""], object)}])
    with serving(folder / "triton", "--model-control-mode=explicit", "--load-model=*") as server:
        yield server


@pytest.fixture
def connected(server: Triton) -> Iterator[Any]:
    with client(server, "grpc") as connected:
        yield connected


@pytest.fixture(params=["grpc", "http"])
def either(request: pytest.FixtureRequest, server: Triton) -> Iterator[Any]:
    with client(server, request.param) as connected:
        yield connected


@pytest.fixture
def scale(folder: Path, connected: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A model that doubles, of a name that is the test's own, loaded."""
    name = re.sub(r"\W", "-", request.node.name)
    tiny.publish(tiny.scale(2), tiny.SCALE, folder, name)
    connected.load_model(name)
    yield name
    connected.unload_model(name)


def factor(connected: Any, model: str, version: str = "") -> float:
    return float(ask(connected, model, {"x": (ONES, "float32")}, version)["y"][0, 0])


def states(connected: Any, model: str) -> dict[str, str]:
    return {one.version: one.state for one in connected.get_model_repository_index().models if one.name == model}


def until(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


class Asking:
    """A client that asks without a pause, while the block lasts."""

    def __init__(self, server: Triton, model: str) -> None:
        self.answers: list[float] = []
        self.failures: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(server, model))

    def __enter__(self) -> Asking:
        self._thread.start()
        until(lambda: bool(self.answers or self.failures))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self, server: Triton, model: str) -> None:
        with client(server, "grpc") as connected:
            while not self._stop.is_set():
                try:
                    self.answers.append(factor(connected, model))
                except Exception as error:
                    self.failures.append(error)

    @property
    def seen(self) -> list[float]:
        """The answers, each once for as long as it stayed."""
        return [one for number, one in enumerate(self.answers) if not number or one != self.answers[number - 1]]


# --- Models and versions ---


def test_the_index_has_every_published_model(connected: Any, server: Triton) -> None:
    assert (states(connected, "embed"), states(connected, "echo")) == ({"1": "READY"}, {"1": "READY"})
    assert connected.is_model_ready("embed", "1")
    assert not connected.is_model_ready("embed", "2")
    assert connected.get_server_metadata().version == "2.51.0"
    assert server.errors() == ""


def test_a_model_is_ready_once_it_has_run_the_requests_that_it_was_published_with(connected: Any) -> None:
    """Integers and strings, which zeros would not do for: the first row, as often as the request had rows."""
    for model in ("embed", "echo"):
        warm_up, = connected.get_model_config(model).config.model_warmup
        assert (warm_up.batch_size, all(one.input_data_file for one in warm_up.inputs.values())) == (2, True)
        stats, = connected.get_inference_statistics(model).model_stats
        assert (stats.inference_count, [one.batch_size for one in stats.batch_stats]) == (2, [2])


def test_a_model_is_unloaded_and_loaded_again(connected: Any, scale: str) -> None:
    connected.unload_model(scale)
    until(lambda: states(connected, scale) == {"1": "UNAVAILABLE"})
    with pytest.raises(Exception, match="no available versions"):
        factor(connected, scale)
    connected.load_model(scale)
    assert factor(connected, scale) == 2


def test_a_new_version_answers_once_it_is_loaded_and_no_request_fails(
        connected: Any, server: Triton, folder: Path, scale: str) -> None:
    with Asking(server, scale) as asking:
        assert tiny.publish(tiny.scale(3), tiny.SCALE, folder, scale) == 2
        assert factor(connected, scale) == 2, "nobody has told Triton yet"
        connected.load_model(scale)
        assert factor(connected, scale) == 3
    assert (asking.failures, asking.seen) == ([], [2, 3])
    until(lambda: states(connected, scale) == {"1": "UNAVAILABLE", "2": "READY"})
    assert factor(connected, scale, "2") == 3
    with pytest.raises(Exception, match="version 1 is not at ready state"):
        factor(connected, scale, "1")


def test_a_configuration_that_changes_with_its_version_is_no_gap_either(
        connected: Any, server: Triton, folder: Path, scale: str) -> None:
    with Asking(server, scale) as asking:
        assert tiny.publish(tiny.scale(3), tiny.SCALE, folder, scale, largest=4) == 2
        connected.load_model(scale)
        assert connected.get_model_config(scale).config.max_batch_size == 4
    assert (asking.failures, asking.seen) == ([], [2, 3])


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_in_service(
        connected: Any, server: Triton, folder: Path, scale: str) -> None:
    tiny.publish(b"no model", tiny.SCALE, folder, scale)
    with Asking(server, scale) as asking, pytest.raises(Exception, match="2 is at UNAVAILABLE"):
        connected.load_model(scale)
    assert (asking.failures, asking.seen) == ([], [2])
    assert tiny.publish(tiny.scale(5), tiny.SCALE, folder, scale) == 3
    connected.load_model(scale)
    assert factor(connected, scale) == 5


def test_another_version_policy_is_a_matter_of_loading(connected: Any, folder: Path, scale: str) -> None:
    tiny.publish(tiny.scale(3), tiny.SCALE, folder, scale)
    told = connected.get_model_config(scale, as_json=True)["config"] | {"version_policy": {"all": {}}}
    connected.load_model(scale, config=json.dumps(told))
    assert states(connected, scale) == {"1": "READY", "2": "READY"}
    assert [factor(connected, scale, version) for version in ("1", "2", "")] == [2, 3, 3]


def test_a_server_that_polls_takes_what_is_published_and_no_request_fails(tmp_path: Path) -> None:
    """A new version alone, and one that changes the configuration, so that the whole folder is exchanged."""
    folder = tmp_path / "serving"
    tiny.publish(tiny.scale(2), tiny.SCALE, folder, "scale")
    with serving(folder / "triton", "--model-control-mode=poll", "--repository-poll-secs=1") as server, \
            Asking(server, "scale") as asking:
        tiny.publish(tiny.scale(3), tiny.SCALE, folder, "scale")
        until(lambda: asking.answers[-1] == 3)
        tiny.publish(tiny.scale(4), tiny.SCALE, folder, "scale", largest=4)
        until(lambda: asking.answers[-1] == 4)
    assert (asking.failures, asking.seen) == ([], [2, 3, 4])


# --- Requests ---


def test_strings_come_back_as_they_went(either: Any) -> None:
    texts = np.array([["안녕".encode()], [b""], [b"a\x00b"]], object)
    np.testing.assert_array_equal(ask(either, "echo", {"text": (texts, "string")})["again"], texts)


def test_rows_of_different_lengths_are_answered_in_any_company(server: Triton) -> None:
    """What waits is batched where it has one shape; ids beyond the table are their own request's error."""
    import tritonclient.grpc

    rows = [np.full((1 + number % 2, 1 + number // 20 % 3), number % (tiny.WORDS + 1)) for number in range(200)]
    table = np.arange(tiny.WORDS * tiny.WIDTH, dtype=np.float32).reshape(tiny.WORDS, tiny.WIDTH)
    answers: dict[int, tuple[Any, Any]] = {}
    with client(server, "grpc") as connected:
        for number, ids in enumerate(rows):
            given = tritonclient.grpc.InferInput("ids", ids.shape, "INT64")
            given.set_data_from_numpy(ids)
            connected.async_infer("embed", [given], lambda result, error, number=number: answers.update(
                {number: (result, error)}))
        until(lambda: len(answers) == len(rows))
    for number, ids in enumerate(rows):
        result, error = answers[number]
        if ids.max() == NO_WORD:
            assert "indices element out of data bounds" in str(error)
        else:
            assert error is None
            np.testing.assert_array_equal(result.as_numpy("rows"), table[ids])


IDS = np.zeros((1, 3), np.int64)


@pytest.mark.parametrize(("model", "version", "inputs", "codes", "said"), [
    ("embed", "", {"ids": (IDS.astype(np.float32), "float32")}, ("INVALID_ARGUMENT", "400"), "data-type"),
    ("embed", "", {"ids": (IDS[..., None], "int64")}, ("INVALID_ARGUMENT", "400"), "shape"),
    ("embed", "", {"ids": (np.repeat(IDS, 9, 0), "int64")}, ("INVALID_ARGUMENT", "400"), "batch-size must be <= 8"),
    ("embed", "", {"words": (IDS, "int64")}, ("INVALID_ARGUMENT", "400"), "unexpected inference input 'words'"),
    ("embed", "", {}, ("INVALID_ARGUMENT", "400"), "expected 1 inputs but got 0"),
    ("embed", "", {"ids": (IDS + NO_WORD, "int64")}, ("INTERNAL", "500"), "indices element out of data bounds"),
    ("nobody", "", {"ids": (IDS, "int64")}, ("NOT_FOUND", "404"), "unknown model: 'nobody' is not found"),
    ("embed", "7", {"ids": (IDS, "int64")}, ("NOT_FOUND", "404"), "unknown model: 'embed'"),
], ids=["dtype", "rank", "batch", "name", "missing", "value", "model", "version"])
def test_a_wrong_request_is_told_what_is_wrong_and_the_next_is_answered(
        model: str, version: str, inputs: Any, codes: tuple[str, str], said: str, either: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=re.escape(said)) as caught:
        ask(either, model, inputs, version)
    assert str(caught.value.status()).removeprefix("StatusCode.") in codes
    assert ask(either, "embed", {"ids": (IDS, "int64")})["rows"].shape == (1, 3, tiny.WIDTH)


def test_a_configuration_that_does_not_fit_its_model_is_refused(connected: Any, folder: Path) -> None:
    wide = tiny.SCALE.model_copy(update={"inputs": {"x": tiny.SCALE.inputs["x"].model_copy(
        update={"shape": (None, tiny.WIDTH + 1)})}})
    tiny.publish(tiny.scale(2), wide, folder, "wide")
    with pytest.raises(Exception, match=r"input 'x' has the shape \(None, 4\), not \[-1, 5\]"):
        connected.load_model("wide")


# --- Load and metrics ---


def test_a_load_of_which_one_request_fails_is_no_success(server: Triton) -> None:
    """Triton itself counts what a Python backend refuses among the answered."""
    words = [{"ids": np.array([number])} for number in range(tiny.WORDS)]
    assert perf_analyzer.load(server.grpc, "embed", words, requests=100, concurrency=4).requests == 100
    with pytest.raises(AssertionError, match="indices element out of data bounds"):
        perf_analyzer.load(server.grpc, "embed", [*words, {"ids": np.array([NO_WORD])}], requests=100, concurrency=4)


def test_requests_are_counted_by_model_and_version(connected: Any, server: Triton, scale: str) -> None:
    for _ in range(5):
        factor(connected, scale)
    with pytest.raises(Exception, match="batch-size"):
        ask(connected, scale, {"x": (np.ones((9, tiny.WIDTH), np.float32), "float32")})

    def text() -> str:
        return server.get("/metrics", server.metrics).decode()

    # The warm-up is one more; an answer goes out before it is counted.
    until(lambda: f'nv_inference_request_success{{model="{scale}",version="1"}} 6' in text())
    assert f'nv_inference_count{{model="{scale}",version="1"}} 6' in text()
    failed = re.findall(rf'nv_inference_request_failure{{model="{scale}",.*?}} (\d+)', text())
    assert sum(map(int, failed)) == 0, "what is refused at the door is no request of the model"
