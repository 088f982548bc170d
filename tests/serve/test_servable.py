"""One loaded version: its answers, what it refuses in whose words, and folders that cannot be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, save_model
from store_models import save
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from trt_pipeline.serve import warmup
from trt_pipeline.serve.refusal import Code, RefusalError
from trt_pipeline.serve.servable import Servable, load

X = np.array([[1, 2]], np.float32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    """Version 3 of tiny."""
    folder = tmp_path_factory.mktemp("tiny") / "3"
    save(folder, 3)
    servable = load("tiny", 3, folder)
    yield servable
    servable.close()


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    """A version of a Triton repository: ``ids`` int64 [-1, 3] and ``words`` string [-1] to their squares and itself."""
    folder = tmp_path_factory.mktemp("triton") / "onnx" / "1"
    folder.mkdir(parents=True)
    write_onnx(folder / "model.onnx")
    (folder / "trt_pipeline.json").write_text(json.dumps({"candidate": "onnxruntime/fp32", "signature": "square"}))
    return load("onnx", 1, folder)


def write_onnx(file: Path) -> None:
    values = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in (
        ("ids", TensorProto.INT64, ["batch", 3]), ("words", TensorProto.STRING, ["batch"]),
        ("squares", TensorProto.INT64, ["batch", 3]), ("again", TensorProto.STRING, ["batch"]))]
    graph = helper.make_graph([helper.make_node("Mul", ["ids", "ids"], ["squares"]),
                               helper.make_node("Identity", ["words"], ["again"])], "g", values[:2], values[2:])
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def refusal(servable: Servable, signature: str, **feeds: Any) -> tuple[Code, str]:
    with pytest.raises(RefusalError) as refused:
        servable.infer(signature, feeds)
    return refused.value.code, refused.value.message


def test_answers_have_the_types_of_the_signature(tiny: Servable) -> None:
    answer = tiny.infer("serving_default", {"x": X})
    assert {name: (value.dtype.name, value.tolist()) for name, value in answer.items()} == {
        "version": ("int64", [3]), "y": ("float32", [[3, 6]])}
    words = tiny.infer("words", {"text": np.array([b"\xff\0", "é".encode()], object)})
    assert words["text"].tolist() == [b"\xff\0", "é".encode()]
    assert words["small"].dtype.name == "bfloat16"
    assert tiny.infer("serving_default", {"x": X[:0]})["y"].shape == (0, 2)


def test_what_it_says_of_itself(tiny: Servable) -> None:
    assert (tiny.name, tiny.version, tiny.folder.name) == ("tiny", 3, "3")
    assert set(tiny.contract.signatures) == {"serving_default", "pairs", "words"}
    assert set(tiny.signature_defs) == {"serving_default", "pairs", "words", "__saved_model_init_op"}
    assert tiny.signature_defs["pairs"].inputs["n"].dtype == tf.int32.as_datatype_enum


def test_numbers_in_the_other_byte_order_and_with_strides_are_the_same_numbers(tiny: Servable) -> None:
    for x in (X.astype(">f4"), np.array([[1, 0, 2, 0]], np.float32)[:, ::2], np.asfortranarray(X)):
        assert tiny.infer("serving_default", {"x": x})["y"].tolist() == [[3, 6]]


@pytest.mark.parametrize(("signature", "feeds", "message"), [
    ("serving_default", {}, "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing "
                            "but required: {x}."),
    ("serving_default", {"y": X, "x": X}, "input size does not match signature: 2!=1 len({x,y}) != len({x}). Sent "
                                          "extra: {y}. Missing but required: {}."),
    ("pairs", {"x": X, "m": X}, "Signature input alias: n(feed name: pairs_n:0) not found in request and no default "
                                "value provided. Inputs expected to be in the request {m,x}, or default input alias "
                                "set: "),
    ("serving_default", {"x": X.astype(np.int32)}, "Expects arg[0] to be float but int32 is provided"),
    ("serving_default", {"x": X.astype(np.float64)}, "Expects arg[0] to be float but double is provided"),
    ("serving_default", {"x": np.array([["a", "b"]], object)}, "Expects arg[0] to be float but string is provided"),
    ("words", {"text": np.zeros(1, np.int64)}, "Expects arg[0] to be string but int64 is provided"),
    ("pairs", {"n": np.zeros(1, np.int32), "x": np.zeros(3, np.float32)},
     "Input to reshape is a tensor with 3 values, but the requested shape requires a multiple of 2"),
])
def test_inputs_that_do_not_fit(tiny: Servable, signature: str, feeds: dict[str, Any], message: str) -> None:
    assert refusal(tiny, signature, **feeds) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize("name", ["zzz", "", "__saved_model_init_op"])
def test_an_unknown_signature(tiny: Servable, name: str) -> None:
    assert refusal(tiny, name, x=X) == (Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')


def test_a_failure_inside_is_logged_with_its_cause(tiny: Servable, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal(tiny, "words", text=np.array([object()], object)) == (
        Code.INTERNAL, "Unsupported object type object")
    assert "model tiny version 3, signature words: Unsupported object type object" in caplog.text


def test_what_nobody_expected_is_not_told(tiny: Servable, caplog: pytest.LogCaptureFixture) -> None:
    closed = load("tiny", 3, tiny.folder)
    closed.close()
    assert refusal(closed, "pairs", x=X, n=X) == (Code.INTERNAL, "internal error: see the server's log")
    assert "Traceback" in caplog.text


def test_many_threads_at_once_get_each_their_own(tiny: Servable) -> None:
    def ask(number: int) -> float:
        return float(tiny.infer("serving_default", {"x": np.full((1, 2), number, np.float32)})["y"][0, 0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(400))) == [3.0 * n for n in range(400)]


def test_inputs_left_out_get_their_defaults(tmp_path: Path) -> None:
    save(tmp_path / "1", 1)
    file = tmp_path / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    definition = model.meta_graphs[0].signature_def["pairs"]
    definition.defaults["n"].CopyFrom(tf.make_tensor_proto([7, 8], tf.int32))
    file.write_bytes(model.SerializeToString())
    servable = load("tiny", 1, tmp_path / "1")
    assert servable.infer("pairs", {"x": X})["n"].tolist() == [7, 8]
    assert servable.infer("pairs", {"x": X, "n": np.array([1], np.int32)})["n"].tolist() == [1]
    assert refusal(servable, "pairs", n=np.array([1], np.int32)) == (Code.INVALID_ARGUMENT, (
        "Signature input alias: x(feed name: pairs_x:0) not found in request and no default value provided. Inputs "
        "expected to be in the request {n}, or default input alias set: n"))
    assert refusal(servable, "pairs", x=X, m=X) == (Code.INVALID_ARGUMENT, (
        "Inputs contains invalid name. Used request inputs: x, request input: m,x"))


def test_an_export_of_tensorflow_1(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        weight = tf.compat.v1.get_variable("w", initializer=2.0, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": x * weight})
    answer = load("old", 1, tmp_path / "1").infer("serving_default", {"x": np.ones(2, np.float32)})
    assert answer["y"].tolist() == [2, 2]


def test_tritons_onnx(onnx: Servable) -> None:
    ids, words = np.array([[1, 2, 3]]), np.array(["é".encode()], object)
    answer = onnx.infer("square", {"ids": ids, "words": words})
    assert answer["squares"].tolist() == [[1, 4, 9]]
    assert answer["again"].tolist() == ["é".encode()]
    definition = onnx.signature_defs["square"]
    assert definition.method_name == "tensorflow/serving/predict"
    assert (definition.inputs["ids"].name, definition.inputs["ids"].dtype) == ("ids:0", tf.int64.as_datatype_enum)
    assert [dim.size for dim in definition.inputs["ids"].tensor_shape.dim] == [-1, 3]
    assert str(onnx.contract.signatures["square"].outputs["again"]) == "string (-1)"


@pytest.mark.parametrize(("ids", "words", "message"), [
    (np.array([[1, 2]]), [b"a"], "Got invalid dimensions for input: ids for the following indices index: 1 Got: 2 "
                                 "Expected: 3 Please fix either the inputs/outputs or the model."),
    (np.array([1]), [b"a"], "Invalid rank for input: ids Got: 1 Expected: 2 Please fix either the inputs/outputs or "
                            "the model."),
    (np.array([[1, 2, 3]], np.int32), [b"a"], "Expects input ids to be int64 but int32 is provided"),
    (np.array([["a", "b", "c"]], object), [b"a"], "Expects input ids to be int64 but string is provided"),
    (np.array([[1, 2, 3]]), [b"\xff"], "input words is not UTF-8, which ONNX Runtime's strings are"),
])
def test_inputs_that_do_not_fit_an_onnx(onnx: Servable, ids: Any, words: list[bytes], message: str) -> None:
    assert refusal(onnx, "square", ids=ids, words=np.array(words, object)) == (Code.INVALID_ARGUMENT, message)
    assert refusal(onnx, "square", ids=ids)[1].startswith("input size does not match signature: 1!=2")


def test_what_the_manifest_does_not_name_is_the_default_signature(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx")
    assert list(load("onnx", 1, tmp_path).contract.signatures) == ["serving_default"]


def test_tritons_saved_model(tiny: Servable, tmp_path: Path) -> None:
    (tmp_path / "model.savedmodel").symlink_to(tiny.folder)
    assert load("t", 1, tmp_path).infer("serving_default", {"x": X})["version"].tolist() == [3]


@pytest.mark.parametrize(("name", "content", "code", "says"), [
    ("saved_model.pb", b"nonsense", Code.DATA_LOSS, "saved_model.pb is truncated or corrupt"),
    ("model.onnx", b"nonsense", Code.DATA_LOSS, "model.onnx: .*failed"),
    ("model.plan", b"", Code.UNIMPLEMENTED, "TensorRT plan: serve it with NVIDIA Triton"),
    ("other", b"", Code.NOT_FOUND, r"Could not find SavedModel \.pb or \.pbtxt at supplied export directory path: "),
])
def test_a_folder_that_cannot_be_loaded(tmp_path: Path, name: str, content: bytes, code: Code, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RefusalError, match=says) as refused:
        load("x", 1, tmp_path)
    assert refused.value.code == code
    assert "\n" not in refused.value.message


def records(folder: Path, *logs: bytes) -> None:
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log)


def predict_log(**inputs: Any) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return bytes(log.SerializeToString())


def test_warm_up(tmp_path: Path) -> None:
    class Classifier(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def classify(self, inputs: Any) -> Any:
            kind = {"a": tf.io.FixedLenFeature([], tf.float32), "b": tf.io.FixedLenFeature([], tf.float32)}
            parsed = tf.io.parse_example(inputs, kind)
            return {"scores": tf.identity(self.seen.assign_add(tf.reduce_sum(parsed["a"] + 10 * parsed["b"])))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def predict(self, x: Any) -> Any:
            return {"seen": tf.identity(self.seen.assign_add(tf.reduce_sum(x)))}

    model, folder = Classifier(), tmp_path / "1"
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.predict, "classify": model.classify})
    servable = load("c", 1, folder)
    assert warmup.replay(servable) == 0
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    context = log.classify_log.request.input.example_list_with_context
    context.context.features.feature["a"].float_list.value.append(1)
    for value in (2, 3):
        context.examples.add().features.feature["b"].float_list.value.append(value)
    several = prediction_log_pb2.PredictionLog()
    task = several.multi_inference_log.request.tasks.add()
    task.model_spec.signature_name = "classify"
    example = several.multi_inference_log.request.input.example_list.examples.add()
    example.features.feature["a"].float_list.value.append(0)
    example.features.feature["b"].float_list.value.append(10)
    records(folder, predict_log(x=np.array([1000], np.float32)), log.SerializeToString(), several.SerializeToString())
    assert warmup.replay(servable) == 3
    assert servable.infer("serving_default", {"x": np.zeros(1, np.float32)})["seen"] == 1000 + (1 + 20) + (1 + 30) + 100


@pytest.mark.parametrize(("logs", "code", "says"), [
    ([b"\xff\xff"], Code.INVALID_ARGUMENT, "Failed to parse warmup record"),
    ([predict_log(x=X), predict_log(x=X, y=X)], Code.INVALID_ARGUMENT, "Sent extra: {y}"),
    ([predict_log(x=X)] * 1001, Code.INVALID_ARGUMENT, r"Number of warmup records exceeds the maximum \(1000\)"),
    ([prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()], Code.UNIMPLEMENTED,
     "Unsupported log_type for warmup: session_run_log"),
])
def test_warm_up_records_that_fail_the_version(tiny: Servable, tmp_path: Path, logs: list[bytes], code: Code,
                                               says: str) -> None:
    shutil.copytree(tiny.folder, tmp_path / "3")
    records(tmp_path / "3", *logs)
    with pytest.raises(RefusalError, match=says) as refused:
        warmup.replay(load("tiny", 3, tmp_path / "3"))
    assert refused.value.code == code


def test_a_warm_up_file_that_holds_no_records(tiny: Servable, tmp_path: Path) -> None:
    shutil.copytree(tiny.folder, tmp_path / "3")
    records(tmp_path / "3")
    (tmp_path / "3" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"these are no records, by far")
    with pytest.raises(RefusalError, match="Please verify your warmup data is in TFRecord format") as refused:
        warmup.replay(load("tiny", 3, tmp_path / "3"))
    assert refused.value.code == Code.DATA_LOSS
