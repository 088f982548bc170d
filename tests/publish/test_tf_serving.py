"""serving/NAME/VERSION: numbered, published once, kept or pruned."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_pipeline.publish import tf_serving, versions


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source/variables").mkdir(parents=True)
    (tmp_path / "source/saved_model.pb").write_bytes(b"graph")
    (tmp_path / "source/variables/variables.index").write_bytes(b"index")
    return tmp_path / "source"


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    return tmp_path / "serving"


def publish(source: Path, serving: Path, digest: str, keep: int | None = None, again: bool = False) -> tuple[int, bool]:
    return tf_serving.publish(source, serving, "demo", {"digest": digest}, keep, again)


def test_the_first_version_is_1_and_holds_the_model_as_it_is(source: Path, serving: Path) -> None:
    assert publish(source, serving, "a") == (1, True)
    files = {p.relative_to(serving).as_posix() for p in serving.rglob("*") if p.is_file()}
    assert files == {"demo/1/saved_model.pb", "demo/1/variables/variables.index", "demo/1/trt_pipeline.json",
                     "demo/1/SHA256SUMS"}
    assert (serving / "demo/1/saved_model.pb").read_bytes() == b"graph"


def test_the_next_version_follows_the_highest_there_is(source: Path, serving: Path) -> None:
    (serving / "demo/41").mkdir(parents=True)  # somebody's, without a manifest
    assert publish(source, serving, "a") == (42, True)
    assert publish(source, serving, "b") == (43, True)
    assert versions.existing(serving / "demo") == [41, 42, 43]


def test_an_unchanged_candidate_publishes_nothing(source: Path, serving: Path) -> None:
    publish(source, serving, "a")
    before = (serving / "demo/1").stat()
    assert publish(source, serving, "a", keep=1) == (1, False)
    assert (serving / "demo/1").stat() == before
    assert versions.existing(serving / "demo") == [1]


def test_unless_asked_to_publish_it_again(source: Path, serving: Path) -> None:
    publish(source, serving, "a")
    assert publish(source, serving, "a", again=True) == (2, True)


def test_going_back_to_an_earlier_candidate_is_a_new_version(source: Path, serving: Path) -> None:
    assert [publish(source, serving, digest) for digest in ("a", "b", "a")] == [(1, True), (2, True), (3, True)]


@pytest.mark.parametrize(("keep", "left"), [(None, [1, 2, 3, 4]), (2, [3, 4]), (1, [4])])
def test_old_versions_are_kept_or_pruned(source: Path, serving: Path, keep: int | None, left: list[int]) -> None:
    for digest in "abcd":
        publish(source, serving, digest, keep)
    assert versions.existing(serving / "demo") == left
    assert [p.name for p in serving.iterdir()] == ["demo"]


def test_the_published_files_are_the_publication_s_own(source: Path, serving: Path) -> None:
    publish(source, serving, "a")
    (source / "saved_model.pb").write_bytes(b"changed")
    assert (serving / "demo/1/saved_model.pb").read_bytes() == b"graph"


def test_models_do_not_share_numbers(source: Path, serving: Path) -> None:
    publish(source, serving, "a")
    assert tf_serving.publish(source, serving, "other", {"digest": "a"}, None) == (1, True)
