"""A Triton repository: the files that Triton looks for, and no moment in which they do not fit."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.publish.signatures import IMAGE, signature, tensor
from trt_pipeline.backends.base import Artifact
from trt_pipeline.engine import recipe
from trt_pipeline.errors import PipelineError
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.publish import triton, versions
from trt_pipeline.samples.profiles import Extent

PLATFORM_FILES = {"tensorflow_savedmodel": "model.savedmodel", "onnxruntime_onnx": "model.onnx"}


def test_a_signature_s_model() -> None:
    several = ["classify", "serving_default", "lookup"]
    assert [triton.triton_name("demo", s, several) for s in several] == ["demo-classify", "demo", "demo-lookup"]
    assert triton.triton_name("enko", "translate", ["translate"]) == "enko"
    assert [triton.triton_name("m", s, ["b", "a"]) for s in ("b", "a")] == ["m", "m-a"]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Conversions: an ONNX file with a file of weights, a SavedModel, and an engine with all that it was made with."""
    for name in ("serving_default", "classify"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "model.onnx").write_text(f"onnx {name}")
        (tmp_path / "work" / name / "model.onnx.data").write_text("weights")
    (tmp_path / "work/saved/variables").mkdir(parents=True)
    (tmp_path / "work/saved/saved_model.pb").write_text("graph")
    engine = tmp_path / "work/engine"
    engine.mkdir()
    for name in ("model.plan", "graft.plan", "model.onnx", "timing.cache", "built_on.json"):
        (engine / name).write_text(name)
    recipe.write(recipe.Recipe(precision="fp16", tensorrt="8.5.3.1", typed=False, narrowed={"ids": "int64"}), engine)
    (tmp_path / "work/saved/variables/variables.index").write_text("index")
    return tmp_path / "work"


ONNX = Artifact(kind="onnx", files={"serving_default": "serving_default/model.onnx",
                                    "classify": "classify/model.onnx"})
SAVED = Artifact(kind="savedmodel", files={"serving_default": "saved", "classify": "saved"})
BUILT = {"gpu": "NVIDIA A10G", "tensorrt": "8.5.3.1"}
PLAN = Artifact(
    kind="tensorrt-plan", files={"serving_default": "engine/model.plan"}, built=BUILT,
    profiles={"serving_default": ({"ids": Extent(min=(1, 1), opt=(8, 16), max=(32, 40))},)})
ENCODE = signature({"ids": tensor("int64", None, None)}, {"state": tensor("float32", None, 64)})
CLASSIFY = signature({"inputs": tensor("string", None)}, {"scores": tensor("float32", None, 10)}, "classify")


def publish(work: Path, artifact: Artifact, digest: str, *, keep: int | None = None, again: bool = False,
            largest: int = 8, signatures: tuple[SignatureContract, ...] = (IMAGE,)) -> tuple[int, bool]:
    return triton.publish(artifact, work, {s.name: s for s in signatures}, work.parent / "serving/triton", "demo",
                          largest, {"digest": digest}, keep, again)


def parsed(file: Path) -> Any:
    """A configuration as Triton's own message."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse(file.read_text(), messages.ModelConfig())


def files(work: Path) -> set[str]:
    root = work.parent / "serving/triton"
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def test_an_onnx_candidate_is_published_with_its_weights(work: Path) -> None:
    assert publish(work, ONNX, "a") == (1, True)
    assert files(work) == {"demo/config.pbtxt", "demo/1/config.pbtxt", "demo/1/model.onnx", "demo/1/model.onnx.data",
                           "demo/1/trt_pipeline.json", "demo/1/SHA256SUMS"}


def test_a_savedmodel_lies_under_the_name_that_triton_looks_for(work: Path) -> None:
    assert publish(work, SAVED, "a") == (1, True)
    assert {"demo/1/model.savedmodel/saved_model.pb",
            "demo/1/model.savedmodel/variables/variables.index"} < files(work)


def test_of_an_engine_only_the_plan_is_published(work: Path) -> None:
    assert publish(work, PLAN, "a", signatures=(ENCODE,)) == (1, True)
    assert files(work) == {"demo/config.pbtxt", "demo/README.md", "demo/1/config.pbtxt", "demo/1/README.md",
                           "demo/1/model.plan", "demo/1/trt_pipeline.json", "demo/1/SHA256SUMS"}
    assert (work.parent / "serving/triton/demo/1/model.plan").read_text() == "model.plan"


def test_an_engine_without_int64_has_int32_and_its_readme_says_so(work: Path) -> None:
    publish(work, PLAN, "a", largest=64, signatures=(ENCODE,))
    config = parsed(work.parent / "serving/triton/demo/config.pbtxt")
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 32)
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    assert config.input[0].data_type == messages.DataType.Value("TYPE_INT32")
    readme = (work.parent / "serving/triton/demo/README.md").read_text()
    assert "`ids` is int32 here and int64 in the SavedModel" in readme
    assert "TensorRT 8.5.3.1" in readme
    assert "NVIDIA A10G" in readme
    assert "`ids` 1x1, 8x16, 32x40" in readme


def test_of_a_signature_that_was_split_the_core_is_served_and_the_readme_says_what_the_client_does(work: Path) -> None:
    whole = signature({"text": tensor("string", None)}, {"label": tensor("string", None)})
    core = signature({"ids": tensor("int64", None, 40)}, {"scores": tensor("float32", None, 3)})
    split = PLAN.model_copy(update={"core": {"serving_default": core}, "description": {
        "serving_default": {"client": ["looks each word up in vocab.txt", "takes the label of the largest score"]}}})
    publish(work, split, "a", signatures=(whole,))
    config = parsed(work.parent / "serving/triton/demo/config.pbtxt")
    assert ([t.name for t in config.input], [t.name for t in config.output]) == (["ids"], ["scores"])
    readme = (work.parent / "serving/triton/demo/README.md").read_text()
    assert "- looks each word up in vocab.txt\n- takes the label of the largest score\n" in readme
    assert "`ids` int32 (-1,40) in, `scores` float32 (-1,3) out" in readme


def test_the_same_candidate_as_a_savedmodel_is_served_whole(work: Path) -> None:
    core = signature({"ids": tensor("int64", None, 40)}, {"scores": tensor("float32", None, 3)})
    grafted = PLAN.model_copy(update={"core": {"serving_default": core}, "also": {
        "tensorrt-savedmodel": {"serving_default": "saved"}}}).form(["tensorrt-savedmodel"])
    assert grafted
    publish(work, grafted, "a", signatures=(CLASSIFY,))
    assert {"demo/1/model.savedmodel/saved_model.pb", "demo/1/model.savedmodel/variables/variables.index"} < files(work)
    config = parsed(work.parent / "serving/triton/demo/config.pbtxt")
    assert (config.platform, [t.name for t in config.input]) == ("tensorflow_savedmodel", ["inputs"])
    assert not (work.parent / "serving/triton/demo/README.md").exists()


def test_an_engine_that_is_not_built_is_never_published(work: Path) -> None:
    pending = PLAN.model_copy(update={"files": {"serving_default": "engine/model.onnx"}, "built": {}})
    with pytest.raises(PipelineError, match=r"no engine yet.*finalize"):
        publish(work, pending, "a", signatures=(ENCODE,))
    assert not (work.parent / "serving").exists()


def test_a_readme_goes_with_the_version_that_it_is_of(work: Path) -> None:
    publish(work, PLAN, "a", signatures=(ENCODE,))
    publish(work, ONNX, "b")
    model = work.parent / "serving/triton/demo"
    assert not (model / "README.md").exists()
    assert (model / "1/README.md").is_file()
    assert not (model / "2/README.md").exists()
    assert publish(work, PLAN, "c", signatures=(ENCODE,)) == (3, True)
    assert publish(work, PLAN, "c", signatures=(ENCODE,)) == (3, False)
    assert (model / "README.md").read_text() == (model / "1/README.md").read_text()


def test_each_signature_has_a_model_of_its_own(work: Path) -> None:
    assert publish(work, ONNX, "a", signatures=(IMAGE, CLASSIFY)) == (1, True)
    repository = work.parent / "serving/triton"
    assert sorted(p.name for p in repository.iterdir()) == ["demo", "demo-classify"]
    assert (repository / "demo-classify/1/model.onnx").read_text() == "onnx classify"
    assert 'name: "demo-classify"' in (repository / "demo-classify/config.pbtxt").read_text()


def test_an_unchanged_candidate_publishes_nothing_unless_asked_to(work: Path) -> None:
    publish(work, ONNX, "a")
    before = files(work)
    assert publish(work, ONNX, "a") == (1, False)
    assert files(work) == before
    assert publish(work, ONNX, "a", again=True) == (2, True)


def test_the_same_candidate_with_another_configuration_is_new(work: Path) -> None:
    publish(work, ONNX, "a", largest=8)
    assert publish(work, ONNX, "a", largest=16) == (2, True)
    assert "max_batch_size: 16" in (work.parent / "serving/triton/demo/config.pbtxt").read_text()
    assert "max_batch_size: 8" in (work.parent / "serving/triton/demo/1/config.pbtxt").read_text()


def test_a_change_of_platform_keeps_the_old_versions_files(work: Path) -> None:
    publish(work, ONNX, "a")
    before = files(work)
    assert publish(work, SAVED, "b") == (2, True)
    assert before < files(work)
    assert (work.parent / "serving/triton/demo/1/model.onnx").read_text() == "onnx serving_default"
    assert 'platform: "tensorflow_savedmodel"' in (work.parent / "serving/triton/demo/config.pbtxt").read_text()
    assert [p.name for p in (work.parent / "serving").iterdir()] == ["triton"]


@pytest.mark.parametrize("artifacts", [(ONNX, ONNX, ONNX), (ONNX, SAVED, ONNX)], ids=["same", "changing"])
def test_old_versions_are_pruned(work: Path, artifacts: tuple[Artifact, ...]) -> None:
    for number, artifact in enumerate(artifacts):
        publish(work, artifact, str(number), keep=2)
    assert versions.existing(work.parent / "serving/triton/demo") == [2, 3]


def test_a_copy_that_fails_midway_changes_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(work, ONNX, "a")
    before = files(work)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(PipelineError, match="disk full"):
        publish(work, SAVED, "b")
    assert files(work) == before
    assert [p.name for p in (work.parent / "serving").iterdir()] == ["triton"]


def observe(model: Path) -> tuple[str, set[str]] | None:
    """Platform and newest version's files as of one moment, or None where the folder was just replaced.

    Everything is read through one descriptor of the folder; that it still is the folder afterwards
    proves that all of it stood there together.
    """
    folder = os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    try:
        newest = max((name for name in os.listdir(folder) if name.isdigit()), key=int, default=None)
        if newest is None:
            return None
        inside = os.open(newest, os.O_RDONLY, dir_fd=folder)
        try:
            found = set(os.listdir(inside))
        finally:
            os.close(inside)
        config = os.open("config.pbtxt", os.O_RDONLY, dir_fd=folder)
        try:
            platform = re.search(r'platform: "(\w+)"', os.read(config, 10_000).decode())
        finally:
            os.close(config)
        again = max((name for name in os.listdir(folder) if name.isdigit()), key=int, default=None)
        if again != newest or os.fstat(folder).st_ino != os.stat(model).st_ino:
            return None
        assert platform
        return platform[1], found
    except FileNotFoundError:
        if os.fstat(folder).st_ino != os.stat(model).st_ino:
            return None
        raise
    finally:
        os.close(folder)


def test_no_moment_has_a_configuration_that_does_not_fit_the_newest_version(work: Path) -> None:
    publish(work, ONNX, "0")
    model = work.parent / "serving/triton/demo"
    wrong: list[Any] = []
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                if (moment := observe(model)) is None:
                    continue
            except Exception as error:
                wrong.append(error)
                continue
            seen.add(moment[0])
            if PLATFORM_FILES[moment[0]] not in moment[1]:
                wrong.append(moment)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(1, 60):
        publish(work, (ONNX, SAVED, SAVED)[number % 3], str(number), keep=3)
    stop.set()
    watcher.join()
    assert wrong == []
    assert seen == set(PLATFORM_FILES)
