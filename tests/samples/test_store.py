"""What goes into the store comes out again; batches are trimmed to true lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_pipeline.samples import store
from trt_pipeline.samples.store import Samples


def texts(values: Any) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=np.int64).reshape(3, 2),
    np.array([[True], [False]]),
    np.float32(2.5).reshape(()),
    np.zeros((0, 4), np.float32),
    np.zeros((3, 0), np.int32),
    np.array([[1.0, np.nan], [np.inf, -0.0]], np.float16),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([1 + 2j], np.complex64),
], ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_numbers_round_trip(tmp_path: Path, array: np.ndarray) -> None:
    store.write({"x": array}, tmp_path)
    got = store.read(tmp_path)["x"]
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("values", [
    [b"one", b"", b"three"],
    [b"", b""],
    [b"ends in\0", b"\0", b"\0\0mid\0dle\0"],
    [b"\xff\xfe not utf-8"],
    [[b"a", b"bb"], [b"", b"\0"], [b"ccc", b"d"]],
], ids=["empty", "all empty", "nul", "bytes", "rank 2"])
def test_strings_round_trip_as_bytes(tmp_path: Path, values: Any) -> None:
    store.write({"x": texts(values)}, tmp_path)
    got = store.read(tmp_path)["x"]
    assert got.dtype == object
    assert got.tolist() == values


def test_python_text_becomes_utf_8(tmp_path: Path) -> None:
    store.write({"object": texts(["번역", "naïve", ""]), "unicode": np.array(["번역", "é"])}, tmp_path)
    got = store.read(tmp_path)
    assert got["object"].tolist() == ["번역".encode(), "naïve".encode(), b""]
    assert got["unicode"].tolist() == ["번역".encode(), "é".encode()]


def test_no_strings_at_all_and_a_single_one_keep_their_shape(tmp_path: Path) -> None:
    store.write({"none": np.zeros((0, 3), object), "scalar": np.array(b"x", dtype=object)}, tmp_path)
    got = store.read(tmp_path)
    assert got["none"].shape == (0, 3)
    assert (got["scalar"].shape, got["scalar"][()]) == ((), b"x")


def test_strings_and_numbers_lie_side_by_side_without_pickles(tmp_path: Path) -> None:
    store.write({"a": texts([b"x"]), "a.b": np.ones(1)}, tmp_path)
    assert set(store.read(tmp_path)) == {"a", "a.b"}
    for file in tmp_path.iterdir():
        np.load(file, allow_pickle=False)


@pytest.mark.parametrize("name", ["dense_1/Softmax:0", "input:0", "a b"])
def test_any_name_that_tensorflow_allows_for_an_output_is_stored(tmp_path: Path, name: str) -> None:
    """`outputs={t.name: t for t in model.outputs}` is a common way to write signatures."""
    store.write({name: np.ones(2), name + "s": texts([b"x"])}, tmp_path)
    assert set(store.read(tmp_path)) == {name, name + "s"}


def test_a_number_array_may_be_named_like_a_part_of_a_string_array(tmp_path: Path) -> None:
    store.write({"x.bytes": np.ones(2)}, tmp_path)
    assert set(store.read(tmp_path)) == {"x.bytes"}


# --- Batches ---


def opened(folder: Path, padding: dict[str, int] | None = None, **columns: Any) -> Samples:
    store.write({name: np.asarray(value) for name, value in columns.items()}, folder)
    return Samples(folder, padding)


def test_a_batch_takes_its_rows_in_the_order_asked_for(tmp_path: Path) -> None:
    samples = opened(tmp_path, x=[[0, 0], [1, 1], [2, 2]], names=texts([b"zero", b"one", b"two"]))
    batch = samples.take([2, 0, 2])
    assert batch["x"].tolist() == [[2, 2], [0, 0], [2, 2]]
    assert batch["names"].tolist() == [b"two", b"zero", b"two"]


def test_a_batch_may_be_written_to_without_changing_the_samples(tmp_path: Path) -> None:
    samples = opened(tmp_path, x=[[1, 1]])
    samples.take([0])["x"][:] = 9
    assert samples.take([0])["x"].tolist() == [[1, 1]]


def test_samples_are_counted_by_the_leading_axis(tmp_path: Path) -> None:
    assert len(opened(tmp_path / "three", x=np.zeros((3, 5)))) == 3
    assert len(Samples(tmp_path / "nothing")) == 0


def test_the_length_of_a_sample_ends_at_its_last_value_that_is_not_padding(tmp_path: Path) -> None:
    samples = opened(tmp_path, {"x": 0}, x=[[5, 0, 0, 0], [5, 6, 7, 8], [5, 0, 6, 0], [0, 0, 0, 0]])
    assert samples.lengths.tolist() == [1, 4, 3, 1]
    assert samples.padded


def test_the_longest_input_of_a_sample_decides(tmp_path: Path) -> None:
    samples = opened(tmp_path, {"x": 0, "mask": -1}, x=[[5, 0, 0]], mask=[[1, 1, -1]])
    assert samples.lengths.tolist() == [2]
    assert {name: value.tolist() for name, value in samples.take([0]).items()} == {"x": [[5, 0]], "mask": [[1, 1]]}


def test_a_batch_is_trimmed_to_its_longest_sample(tmp_path: Path) -> None:
    samples = opened(tmp_path, {"x": 0}, x=[[5, 0, 0, 0], [5, 6, 7, 8], [5, 6, 0, 0]])
    assert samples.take([0, 2])["x"].tolist() == [[5, 0], [5, 6]]
    assert samples.take([0])["x"].tolist() == [[5]]


def test_a_batch_may_be_brought_to_a_width(tmp_path: Path) -> None:
    samples = opened(tmp_path, {"x": 7}, x=[[5, 7], [5, 6]])
    assert samples.take([0], width=4)["x"].tolist() == [[5, 7, 7, 7]]


def test_an_input_without_padding_keeps_its_width(tmp_path: Path) -> None:
    samples = opened(tmp_path, {"x": 0}, x=[[5, 0]], y=[[0, 0]])
    assert samples.take([0])["y"].tolist() == [[0, 0]]


def test_padding_of_an_input_that_is_not_there_is_no_padding(tmp_path: Path) -> None:
    samples = opened(tmp_path, {"other": 0}, x=[[5, 0]])
    assert not samples.padded
    assert samples.take([0])["x"].tolist() == [[5, 0]]


def test_padded_frames_of_rank_3_have_lengths_too(tmp_path: Path) -> None:
    """Frames of features, (N, T, D), as of an audio model."""
    frames = np.zeros((2, 4, 3), np.int32)
    frames[0, :2], frames[1, :3] = 1, 1
    samples = opened(tmp_path, {"x": 0}, x=frames)
    assert samples.lengths.tolist() == [2, 3]
    assert samples.take([0])["x"].shape == (1, 2, 3)
