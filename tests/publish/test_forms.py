"""A candidate in several forms: which one is taken, and how large all of them are."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_pipeline.backends.base import Artifact, ArtifactKind

PLAN = Artifact(kind="tensorrt-plan", files={"a": "a/model.plan", "b": "b/model.plan"},
                also={"tensorrt-savedmodel": {"a": "graft", "b": "graft"}, "onnx": {"a": "a/model.onnx"}},
                built={"tensorrt": "8.5.3.1"})


@pytest.mark.parametrize(("kinds", "taken"), [
    (["tensorrt-plan"], "tensorrt-plan"), (["onnx", "tensorrt-savedmodel", "tensorrt-plan"], "tensorrt-plan"),
    (["onnx", "tensorrt-savedmodel"], "tensorrt-savedmodel"), (["savedmodel", "onnx"], "onnx")])
def test_the_main_form_comes_first_and_then_the_others_in_their_order(kinds: list[ArtifactKind], taken: str) -> None:
    form = PLAN.form(kinds)
    assert form
    assert (form.kind, form.also, form.built) == (taken, {}, PLAN.built)
    assert form.files == (PLAN.files if taken == "tensorrt-plan" else PLAN.also[form.kind])


def test_a_kind_that_it_has_not_is_none_of_its_forms() -> None:
    assert PLAN.form(["savedmodel"]) is None
    assert PLAN.form([]) is None


def write(folder: Path, name: str, size: int) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(bytes(size))


def test_the_size_is_of_what_each_form_has_and_nothing_else(tmp_path: Path) -> None:
    for name, size in (("a/model.plan", 1), ("b/model.plan", 2), ("a/graft.plan", 4), ("a/timing.cache", 8),
                       ("graft/saved_model.pb", 16), ("graft/variables/variables.index", 32), ("a/model.onnx", 64),
                       ("a/model.onnx.data", 128), ("a/rounded.onnx", 256), ("a/rounded.onnx.data", 512)):
        write(tmp_path, name, size)
    assert PLAN.size_bytes(tmp_path) == 1 + 2 + 16 + 32 + 64 + 128
    form = PLAN.form(["tensorrt-savedmodel"])
    assert form
    assert form.size_bytes(tmp_path) == 16 + 32


def test_files_in_two_forms_count_once(tmp_path: Path) -> None:
    write(tmp_path, "model/saved_model.pb", 3)
    write(tmp_path, "model/assets/engine", 5)
    both = Artifact(kind="tensorrt-plan", files={"a": "model/assets/engine"},
                    also={"tensorrt-savedmodel": {"a": "model"}})
    assert both.size_bytes(tmp_path) == 8
