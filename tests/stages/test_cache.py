"""A stage's result is kept whole under everything that went into it, or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trt_pipeline.environment import version
from trt_pipeline.stages import cache
from trt_pipeline.stages.cache import StageCache, key_of

KEY = "0123456789abcdef" * 4


def kept(store: StageCache, value: object, key: str = KEY) -> cache.Entry:
    staging = store.stage()
    (staging / "files").mkdir()
    (staging / "files" / "model").write_text(str(value))
    (staging / "log.txt").write_text("log")
    return store.keep("convert", key, staging, value, seconds=1.5, peak_memory_mb=64.0)


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    entry = kept(StageCache(tmp_path), {"a": [1, None, "é"]})
    found = StageCache(tmp_path).find("convert", KEY)
    assert found == entry
    assert found is not None
    assert (found.value, found.seconds, found.peak_memory_mb) == ({"a": [1, None, "é"]}, 1.5, 64.0)
    assert (found.files / "model").is_file()
    assert found.log.read_text() == "log"


def test_another_key_or_stage_is_not_found(tmp_path: Path) -> None:
    store = StageCache(tmp_path)
    kept(store, 1)
    assert store.find("convert", "f" + KEY[1:]) is None
    assert store.find("validate", KEY) is None


def test_keeping_again_replaces_the_whole_entry(tmp_path: Path) -> None:
    store = StageCache(tmp_path)
    (kept(store, "old").files / "extra").write_text("of the old one")
    entry = kept(store, "new")
    assert [p.name for p in entry.files.iterdir()] == ["model"]
    assert entry == store.find("convert", KEY)


def test_what_was_not_kept_is_removed_by_the_next_run(tmp_path: Path) -> None:
    store = StageCache(tmp_path)
    kept(store, 1)
    (store.stage() / "half").write_text("written")
    StageCache(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"convert-{KEY[:24]}"]


def test_stages_at_work_do_not_share_a_folder(tmp_path: Path) -> None:
    store = StageCache(tmp_path)
    assert store.stage() != store.stage()


@pytest.mark.parametrize("text", ["", "{", '{"value": 1, "sec'])
def test_a_truncated_entry_is_no_entry(tmp_path: Path, text: str) -> None:
    store = StageCache(tmp_path)
    (kept(store, 1).folder / "result.json").write_text(text)
    assert store.find("convert", KEY) is None
    assert kept(store, 2).value == 2


@pytest.mark.parametrize("text", ["[]", '{"value": 1}'])
def test_an_entry_of_another_form_is_no_entry(tmp_path: Path, text: str) -> None:
    store = StageCache(tmp_path)
    (kept(store, 1).folder / "result.json").write_text(text)
    assert store.find("convert", KEY) is None


def test_a_key_depends_on_every_part_but_not_on_their_order(tmp_path: Path) -> None:
    key = key_of({"model": "a", "options": {"x": 1, "y": 2}})
    assert key == key_of({"options": {"y": 2, "x": 1}, "model": "a"})
    assert len({key, key_of({"model": "b", "options": {"x": 1, "y": 2}}),
                key_of({"model": "a", "options": {"x": 1, "y": 3}}), key_of({"model": "a"})}) == 4


@pytest.mark.parametrize("what", ["python", "tensorflow", "onnxruntime", "cpu", "cores"])
def test_a_key_depends_on_the_environment(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before, environment = key_of({}), cache.environment()
    assert environment[what]
    monkeypatch.setattr(cache, "environment", lambda: environment | {what: "other"})
    assert key_of({}) != before


def test_a_key_depends_on_the_pipeline_s_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of({})
    monkeypatch.setattr(cache.digest, "of_this_package", lambda: "other")
    assert key_of({}) != before


def test_versions_are_read_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert version("onnxruntime").count(".") == 2
    assert "onnxruntime" not in sys.modules
    assert version("no-such-package") == ""
