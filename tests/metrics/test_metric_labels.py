"""Labels are one a sample, in whatever the user keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_pipeline.errors import ConfigError, SamplesError
from trt_pipeline.metrics import labels


def test_each_kind_of_file_gives_what_it_says(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(3))
    np.savez(tmp_path / "columns.npz", ids=np.arange(3), weights=np.ones(3))
    (tmp_path / "texts.json").write_text(json.dumps(["a", ["b", "c"], None]))
    (tmp_path / "records.jsonl").write_text('{"id": 1}\n{"id": 2}\n\n{"id": 3}\n')
    (tmp_path / "lines.txt").write_text("네\n\nja \n", encoding="utf-8")
    assert labels.read(tmp_path / "one.npy").tolist() == [0, 1, 2]
    assert {name: column.tolist() for name, column in labels.read(tmp_path / "columns.npz").items()} == {
        "ids": [0, 1, 2], "weights": [1, 1, 1]}
    assert labels.read(tmp_path / "texts.json") == ["a", ["b", "c"], None]
    assert labels.read(tmp_path / "records.jsonl") == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert labels.read(tmp_path / "lines.txt") == ["네", "", "ja "]
    for file in ("one.npy", "columns.npz", "texts.json", "records.jsonl", "lines.txt"):
        written, _ = labels.pack(str(tmp_path / file), "serve", 3, tmp_path / "packed")
        assert repr(labels.load(written)) == repr(labels.read(tmp_path / file))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_what_ends_a_line_in_a_file_ends_a_label(end: str, tmp_path: Path) -> None:
    texts = ["one\u2028two", "one\u2029two", "one\x85two"]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(text, ensure_ascii=False) + end for text in texts),
                                            encoding="utf-8", newline="")
    (tmp_path / "lines.txt").write_text("".join(text + end for text in texts), encoding="utf-8", newline="")
    assert labels.read(tmp_path / "records.jsonl") == texts
    assert labels.read(tmp_path / "lines.txt") == texts


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("absent.npy", None, "no labels at .*absent.npy: check 'labels' in the config"),
    ("labels.csv", b"1,2", r"labels .*labels.csv: labels are .npz, .npy, .json, .jsonl or .txt"),
    ("broken.npz", b"PK\x03\x04 no archive", "labels .*broken.npz cannot be read as .npz"),
    ("broken.json", b"[1, 2", "labels .*broken.json cannot be read as .json: Expecting"),
    ("latin.txt", b"caf\xe9", "labels .*latin.txt cannot be read as .txt: 'utf-8' codec"),
])
def test_a_file_that_is_none_is_one_line(name: str, content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SamplesError, match=reason):
        labels.read(tmp_path / name)


@pytest.mark.parametrize(("given", "reason"), [
    (np.zeros(9), "labels has 9 labels, and signature serve has 10 samples: give one for each, in their order"),
    ({"ids": [0] * 10, "texts": ["a"] * 11}, "labels: 'texts' has 11 labels, and signature serve has 10 samples: "
                                             "give one for each, in their order"),
    (7, "labels of type int cannot be counted: give an array or a list"),
    ({}, "labels are empty: give one for each sample, in the samples' order"),
])
def test_labels_that_are_not_one_a_sample_are_refused(given: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SamplesError) as refused:
        labels.pack(given, "serve", 10, tmp_path)
    assert str(refused.value) == reason


def test_of_several_signatures_each_gets_its_own() -> None:
    signatures = ("classify", "embed")
    assert labels.of_signature({"classify": [1]}, "classify", signatures) == [1]
    assert labels.of_signature({"classify": [1]}, "embed", signatures) is None
    assert labels.of_signature({"ids": [1], "texts": ["a"]}, "embed", signatures) == {"ids": [1], "texts": ["a"]}
    with pytest.raises(ConfigError, match=r"labels are given for the signature 'embedd', which is not judged: .*'"):
        labels.of_signature({"classify": [1], "embedd": [2]}, "classify", signatures)
