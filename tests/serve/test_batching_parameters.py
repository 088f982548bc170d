"""The batching file: what TensorFlow Serving takes is taken, what it refuses is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_pipeline.errors import ConfigError
from trt_pipeline.serve.batching_parameters import BatchingParameters, read, text

# As TensorFlow Serving's guide to batching writes it.
_DOCUMENTED = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }  # at once
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""


def _read(tmp_path: Path, content: str) -> BatchingParameters:
    file = tmp_path / "batching_parameters.txt"
    file.write_text(content)
    return read(file)


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, _DOCUMENTED) == BatchingParameters(
        max_batch_size=128, batch_timeout_micros=0, max_enqueued_batches=1000000, num_batch_threads=8)


def test_every_field_is_read(tmp_path: Path) -> None:
    found = _read(tmp_path, """
        max_batch_size { value: 32 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 }
        thread_pool_name { value: "batches" } allowed_batch_sizes: 8 allowed_batch_sizes: 32
        pad_variable_length_inputs: true""")
    assert (found.largest_batch, found.thread_pool_name, found.pad_variable_length_inputs) == (8, "batches", True)
    assert [found.filled(rows) for rows in (1, 8, 9, 33)] == [8, 8, 32, 33]


def test_an_empty_file_has_the_servers_defaults(tmp_path: Path) -> None:
    found = _read(tmp_path, "")
    assert (found.max_batch_size, found.batch_timeout_micros, found.max_enqueued_batches) == (1000, 0, 10)
    assert found.num_batch_threads is None


@pytest.mark.parametrize(("content", "said"), [
    ("max_batch_size { value: 4 } allowed_batch_sizes: 8", "it is 8, expected 4"),
    ("allowed_batch_sizes: 8", "it is 8, expected 1000"),
    ("max_batch_size { value: 4 } allowed_batch_sizes: [4, 2, 4]", "increasing order; they are 4, 2, 4"),
    ("max_batch_size { value: 0 }", "max_batch_size: Input should be greater than 0"),
    ("num_batch_threads { value: 0 }", "num_batch_threads: Input should be greater than 0"),
    ("max_enqueued_batches { value: -1 }", "max_enqueued_batches: Input should be greater than 0"),
    ("batch_timeout_micros { value: -5 }", "batch_timeout_micros: Input should be greater than or equal to 0"),
    ("max_batch_size { value: 4 } max_execution_batch_size { value: 8 }", "is larger than max_batch_size 4"),
    ("\nmax_batch_sise { value: 4 }", ':2:1 : Message type "tensorflow.serving.BatchingParameters" has no field'),
    ("max_batch_size: 4", "must be TensorFlow Serving's BatchingParameters"),
    ("max_batch_size { value: 'many' }", "must be TensorFlow Serving's BatchingParameters"),
])
def test_what_the_server_refuses_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ConfigError, match="batching_parameters") as error:
        _read(tmp_path, content)
    assert said in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: No such file"):
        read(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no text"):
        read(tmp_path / "binary")


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries({}, optional={
    "max_batch_size": st.just(64), "batch_timeout_micros": st.integers(0, 10**9),
    "max_enqueued_batches": st.integers(1, 10**6), "num_batch_threads": st.integers(1, 512),
    "thread_pool_name": st.text(), "enable_large_batch_splitting": st.booleans(),
    "max_execution_batch_size": st.integers(1, 64),
    "allowed_batch_sizes": st.sets(st.integers(1, 63)).map(lambda sizes: (*sorted(sizes), 64)),
    "pad_variable_length_inputs": st.booleans()}).map(
        lambda fields: {**fields, **({"max_batch_size": 64} if "allowed_batch_sizes" in fields else {})}))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, object]) -> None:
    parameters = BatchingParameters.model_validate(fields)
    file = tmp_path_factory.getbasetemp() / "batching_parameters.txt"
    file.write_text(text(parameters), "utf-8")
    assert read(file) == parameters


def test_a_default_size_is_written_where_the_allowed_ones_need_it() -> None:
    assert "max_batch_size {\n  value: 1000\n}" in text(BatchingParameters(allowed_batch_sizes=(8, 1000)))
