"""Every kind of source gives arrays by input name; everything else ends in one line."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_pipeline.errors import SamplesError
from trt_pipeline.samples.sources import read

GENERATORS = "tests.samples.generators"


def complaint(source: object, *inputs: str) -> str:
    with pytest.raises(SamplesError) as caught:
        read(str(source), list(inputs or ("x",)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tf_record(path: Path, records: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records))
    return path


# --- npz, npy, folders ---


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_gives_its_arrays_by_name(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "s.npz", x=np.arange(3), text=np.array(["é", ""]))
    got = read(str(tmp_path / "s.npz"), ["x", "text"])
    assert got["x"].tolist() == [0, 1, 2]
    assert got["text"].tolist() == ["é", ""]


def test_an_npy_is_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(3))
    assert read(str(tmp_path / "s.npy"), ["image"])["image"].tolist() == [0, 1, 2]


def test_a_folder_gives_each_file_under_its_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    np.save(tmp_path / "b.c.npy", np.arange(2))
    (tmp_path / "README.md").write_text("not samples")
    assert {name: len(array) for name, array in read(str(tmp_path), []).items()} == {"a": 3, "b.c": 2}


def test_there_must_be_something() -> None:
    assert complaint("nowhere/s.npz") == "no samples at nowhere/s.npz: check 'samples' in the config"


def test_the_kinds_are_named_for_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("1,2")
    assert complaint(tmp_path / "s.csv") == (
        f"{tmp_path}/s.csv: samples are .npz, .npy, .tfrecord, a folder of .npy or module:function")


@pytest.mark.parametrize("name", ["s.npy", "s.tfrecord"])
def test_an_unnamed_array_does_not_do_for_two_inputs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert complaint(tmp_path / name, "a", "b") == (
        f"{tmp_path}/{name} holds one unnamed array, but the signature has inputs a, b: use .npz")


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was executed",)


def test_a_pickled_npz_is_refused_and_not_executed(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.array([Bomb()], dtype=object))
    assert complaint(tmp_path / "s.npz") == (
        f"{tmp_path}/s.npz cannot be read as an npz without pickles: "
        "Object arrays cannot be loaded when allow_pickle=False")


def test_a_pickled_npy_is_refused_and_not_executed(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.array([Bomb()], dtype=object))
    assert complaint(tmp_path / "s.npy").startswith(
        f"{tmp_path}/s.npy cannot be read as a numpy array without pickles: ")


@pytest.mark.parametrize("name", ["s.npz", "s.npy"])
def test_a_bare_pickle_is_refused_and_not_executed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    assert " without pickles: " in complaint(tmp_path / name)


@pytest.mark.parametrize("keep", [0, 10, 100, -30])
def test_a_truncated_npz(tmp_path: Path, keep: int) -> None:
    np.savez(tmp_path / "s.npz", x=np.arange(100))
    data = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "s.npz").write_bytes(data[:keep])
    assert complaint(tmp_path / "s.npz").startswith(f"{tmp_path}/s.npz cannot be read as an npz without pickles: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_damaged_bytes(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "s.npz", x=np.arange(10000))
    data = bytearray((tmp_path / "s.npz").read_bytes())
    middle = len(data) // 2
    data[middle:middle + 40] = b"\xff" * 40
    (tmp_path / "s.npz").write_bytes(data)
    assert complaint(tmp_path / "s.npz").startswith(f"{tmp_path}/s.npz cannot be read as an npz without pickles: ")


def test_an_npy_that_is_named_npz(tmp_path: Path) -> None:
    with (tmp_path / "s.npz").open("wb") as stream:
        np.save(stream, np.arange(3))
    assert complaint(tmp_path / "s.npz").startswith(f"{tmp_path}/s.npz cannot be read as an npz")


def test_an_npz_that_is_named_npy(tmp_path: Path) -> None:
    with (tmp_path / "s.npy").open("wb") as stream:
        np.savez(stream, x=np.arange(3))
    assert complaint(tmp_path / "s.npy").startswith(f"{tmp_path}/s.npy cannot be read as a numpy array")


def test_a_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(100))
    (tmp_path / "s.npy").write_bytes((tmp_path / "s.npy").read_bytes()[:200])
    assert complaint(tmp_path / "s.npy").startswith(f"{tmp_path}/s.npy cannot be read as a numpy array")


# --- TFRecord ---


def test_records_are_bytes_to_their_last_nul(tmp_path: Path) -> None:
    records = [b"\n\x04\x12\0\0\0", b"", b"\0", b"plain", b"same", b"size"]
    got = read(str(tf_record(tmp_path / "s.tfrecord", records)), ["inputs"])["inputs"]
    assert (got.dtype, got.tolist()) == (np.dtype(object), records)


def test_records_of_one_length_keep_their_nuls(tmp_path: Path) -> None:
    got = read(str(tf_record(tmp_path / "s.tfrecords", [b"ab\0", b"\0\0\0"])), ["x"])["x"]
    assert got.tolist() == [b"ab\0", b"\0\0\0"]


def test_tensorflow_s_own_records(tmp_path: Path) -> None:
    got = read("calibration_data/demo_examples_validation.tfrecord", ["inputs"])["inputs"]
    assert got.shape == (len(np.load("calibration_data/demo_validation.npz")["image"]),)
    assert b"image" in got[0]


def test_an_empty_file_holds_no_records(tmp_path: Path) -> None:
    assert read(str(tf_record(tmp_path / "s.tfrecord", [])), ["x"])["x"].shape == (0,)


@pytest.mark.parametrize("cut", [1, 4, 5, 9, 10, 20])
def test_a_truncated_tfrecord(tmp_path: Path, cut: int) -> None:
    path = tf_record(tmp_path / "s.tfrecord", [b"first", b"second"])
    path.write_bytes(path.read_bytes()[:-cut])
    assert complaint(path) == f"{path} is truncated or not a TFRecord file"


@pytest.mark.parametrize("data", [b"name,label\n1,2\n3,4\n" * 9, b"\xff" * 64])
def test_a_file_of_something_else(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.tfrecord"
    path.write_bytes(data)
    assert complaint(path) == f"{path} is truncated or not a TFRecord file"


# --- Generators ---


def test_a_generator_s_samples_are_stacked() -> None:
    got = read(f"{GENERATORS}:pairs", ["x", "n"])
    assert got["x"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert (got["n"].tolist(), got["n"].dtype) == ([0, 1, 2], np.int64)


def test_a_generator_of_texts() -> None:
    assert read(f"{GENERATORS}:texts", ["x"])["x"].tolist() == ["번역", "longer text"]


def test_a_generator_of_serialized_records_keeps_their_nuls() -> None:
    assert read(f"{GENERATORS}:serialized", ["x"])["x"].tolist() == [b"\n\x02ends in\0\0", b"\0"]


def test_a_generator_of_nothing_gives_nothing() -> None:
    assert read(f"{GENERATORS}:nothing", ["x"]) == {}


@pytest.mark.parametrize(("source", "text"), [
    ("no_such_module:function", "cannot import it: No module named 'no_such_module'"),
    (f"{GENERATORS}:missing", f"cannot import it: module '{GENERATORS}' has no attribute 'missing'"),
    (f"{GENERATORS}:ragged", "the samples differ in shape; pad them to one shape"),
    (f"{GENERATORS}:bare", "sample 1 is not a mapping from input name to array"),
])
def test_complaints_about_generators(source: str, text: str) -> None:
    assert complaint(source) == f"samples {source}: {text}"


@pytest.mark.parametrize(("function", "cause"), [("raising", "corpus.txt"), ("no_function", "")])
def test_a_generator_that_raises_or_is_none_is_a_samples_error(function: str, cause: str) -> None:
    text = complaint(f"{GENERATORS}:{function}")
    assert text.startswith(f"samples {GENERATORS}:{function}: ")
    assert cause in text
