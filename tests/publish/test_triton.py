"""A Triton repository: configurations that Triton's own parser reads, and no moment that does not fit."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.backends.base import Artifact
from trt_pipeline.errors import PipelineError
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.publish import triton, versions

PLATFORM_FILES = {"tensorflow_savedmodel": "model.savedmodel", "onnxruntime_onnx": "model.onnx"}


def tensor(dtype: str, *shape: int | None) -> TensorContract:
    return TensorContract(dtype=dtype, shape=shape)


def signature(inputs: dict[str, TensorContract], outputs: dict[str, TensorContract],
              name: str = "serving_default") -> SignatureContract:
    return SignatureContract(name=name, method_name="", inputs=inputs, outputs=outputs)


IMAGE = signature({"image": tensor("float32", None, 8, 8, 1)}, {"logits": tensor("float32", None, 10)})


def parsed(contract: SignatureContract, kind: str = "onnx", max_batch_size: int = 32) -> Any:
    """The configuration as Triton's own message."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse(triton.config_text("demo", kind, contract, max_batch_size), messages.ModelConfig())


def dims(side: Any) -> dict[str, list[int]]:
    return {t.name: list(t.dims) for t in side}


@pytest.mark.parametrize(("kind", "platform"), [("onnx", "onnxruntime_onnx"), ("savedmodel", "tensorflow_savedmodel")])
def test_a_free_batch_is_left_to_triton(kind: str, platform: str) -> None:
    config = parsed(IMAGE, kind)
    assert (config.name, config.platform, config.max_batch_size) == ("demo", platform, 32)
    assert (dims(config.input), dims(config.output)) == ({"image": [8, 8, 1]}, {"logits": [10]})
    assert config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 1


def test_a_savedmodel_names_its_signature() -> None:
    config = parsed(IMAGE.model_copy(update={"name": "classify"}), "savedmodel")
    assert config.parameters["TF_SIGNATURE_DEF"].string_value == "classify"
    assert not parsed(IMAGE).parameters


def test_free_axes_are_minus_one() -> None:
    config = parsed(signature({"ids": tensor("int64", None, None)}, {"y": tensor("float32", None, 4, None)}))
    assert (dims(config.input), dims(config.output)) == ({"ids": [-1]}, {"y": [4, -1]})


def test_a_fixed_batch_is_a_dimension_and_is_not_batched() -> None:
    config = parsed(signature({"x": tensor("float32", 4, 8)}, {"y": tensor("float32", 4)}))
    assert config.max_batch_size == 0
    assert (dims(config.input), dims(config.output)) == ({"x": [4, 8]}, {"y": [4]})
    assert not config.HasField("dynamic_batching")


def test_one_output_without_a_batch_axis_keeps_all_from_being_batched() -> None:
    config = parsed(signature({"x": tensor("float32", None, 8)},
                              {"y": tensor("float32", None, 8), "table": tensor("float32", 3, 2)}))
    assert config.max_batch_size == 0
    assert dims(config.input) == {"x": [-1, 8]}
    assert dims(config.output) == {"y": [-1, 8], "table": [3, 2]}


def test_one_value_a_row_is_a_dimension_of_1_that_is_reshaped_away() -> None:
    config = parsed(signature({"names": tensor("string", None)}, {"score": tensor("float32", None)}))
    assert (dims(config.input), dims(config.output)) == ({"names": [1]}, {"score": [1]})
    assert all(t.HasField("reshape") and list(t.reshape.shape) == [] for t in (*config.input, *config.output))
    assert not parsed(IMAGE).input[0].HasField("reshape")


def test_a_scalar_of_a_model_that_is_not_batched_has_no_empty_reshape() -> None:
    """Triton: 'cannot have empty reshape for non-batching model as scalar tensors are not supported'."""
    config = parsed(signature({"x": tensor("float32", None, 8)}, {"loss": tensor("float32")}))
    assert config.max_batch_size == 0
    assert not config.output[0].HasField("reshape")


@pytest.mark.parametrize(("dtype", "data_type"), [
    ("float32", "TYPE_FP32"), ("float64", "TYPE_FP64"), ("float16", "TYPE_FP16"), ("bfloat16", "TYPE_BF16"),
    ("int8", "TYPE_INT8"), ("int16", "TYPE_INT16"), ("int32", "TYPE_INT32"), ("int64", "TYPE_INT64"),
    ("uint8", "TYPE_UINT8"), ("uint16", "TYPE_UINT16"), ("uint32", "TYPE_UINT32"), ("uint64", "TYPE_UINT64"),
    ("bool", "TYPE_BOOL"), ("string", "TYPE_STRING")])
def test_data_types(dtype: str, data_type: str) -> None:
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    config = parsed(signature({"x": tensor(dtype, None, 2)}, {}))
    assert config.input[0].data_type == messages.DataType.Value(data_type)


def test_a_dtype_that_triton_lacks_is_refused_in_a_line() -> None:
    with pytest.raises(PipelineError, match="complex64"):
        triton.config_text("demo", "savedmodel", signature({"x": tensor("complex64", None, 2)}, {}), 8)


def test_an_unknown_rank_is_not_told_as_a_single_value() -> None:
    unknown = signature({"x": TensorContract(dtype="float32", shape=None)}, {})
    try:
        config = parsed(unknown)
    except PipelineError:
        return
    assert dims(config.input) != {"x": [1]}


@pytest.mark.parametrize("name", ['say "hi"', "ünï", "dense_1/Softmax:0"])
def test_any_name_is_written_so_that_it_is_read_again(name: str) -> None:
    assert dims(parsed(signature({name: tensor("int32", None, 2)}, {})).input) == {name: [2]}


def test_a_signature_s_model() -> None:
    several = ["classify", "serving_default", "lookup"]
    assert [triton.triton_name("demo", s, several) for s in several] == ["demo-classify", "demo", "demo-lookup"]
    assert triton.triton_name("enko", "translate", ["translate"]) == "enko"
    assert [triton.triton_name("m", s, ["b", "a"]) for s in ("b", "a")] == ["m", "m-a"]


# --- The repository ---


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Conversions: an ONNX file with a file of weights, and a SavedModel."""
    for name in ("serving_default", "classify"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "model.onnx").write_text(f"onnx {name}")
        (tmp_path / "work" / name / "model.onnx.data").write_text("weights")
    (tmp_path / "work/saved/variables").mkdir(parents=True)
    (tmp_path / "work/saved/saved_model.pb").write_text("graph")
    (tmp_path / "work/saved/variables/variables.index").write_text("index")
    return tmp_path / "work"


ONNX = Artifact(kind="onnx", files={"serving_default": "serving_default/model.onnx",
                                    "classify": "classify/model.onnx"})
SAVED = Artifact(kind="savedmodel", files={"serving_default": "saved", "classify": "saved"})
CLASSIFY = signature({"inputs": tensor("string", None)}, {"scores": tensor("float32", None, 10)}, "classify")


def publish(work: Path, artifact: Artifact, digest: str, *, keep: int | None = None, again: bool = False,
            largest: int = 8, signatures: tuple[SignatureContract, ...] = (IMAGE,)) -> tuple[int, bool]:
    return triton.publish(artifact, work, {s.name: s for s in signatures}, work.parent / "serving/triton", "demo",
                          largest, {"digest": digest}, keep, again)


def files(work: Path) -> set[str]:
    root = work.parent / "serving/triton"
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def test_an_onnx_candidate_is_published_with_its_weights(work: Path) -> None:
    assert publish(work, ONNX, "a") == (1, True)
    assert files(work) == {"demo/config.pbtxt", "demo/1/config.pbtxt", "demo/1/model.onnx", "demo/1/model.onnx.data",
                           "demo/1/trt_pipeline.json"}


def test_a_savedmodel_lies_under_the_name_that_triton_looks_for(work: Path) -> None:
    assert publish(work, SAVED, "a") == (1, True)
    assert {"demo/1/model.savedmodel/saved_model.pb",
            "demo/1/model.savedmodel/variables/variables.index"} < files(work)


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
