"""Every call of TensorFlow Serving's gRPC API, with its own stubs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from trt_pipeline.serve import Addresses, running, tensor_protos

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="session")
def stub(addresses: Addresses) -> Iterator[Any]:
    with grpc.insecure_channel(addresses.grpc) as channel:
        yield SimpleNamespace(prediction=prediction_service_pb2_grpc.PredictionServiceStub(channel),
                              model=model_service_pb2_grpc.ModelServiceStub(channel))


def spec(signature: str = "", name: str = "toy", **version: Any) -> model_pb2.ModelSpec:
    number = version.pop("version", None)
    made = model_pb2.ModelSpec(name=name, signature_name=signature, **version)
    if number is not None:
        made.version.value = number
    return made


def predicting(asked: model_pb2.ModelSpec | None = None, output_filter: tuple[str, ...] = (),
               **inputs: Any) -> predict_pb2.PredictRequest:
    protos = {name: value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
              for name, value in inputs.items()}
    return predict_pb2.PredictRequest(model_spec=asked or spec(), inputs=protos, output_filter=output_filter)


def example(**features: list[float]) -> tf.train.Example:
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(float_list=tf.train.FloatList(value=values)) for name, values in features.items()}))


def refused(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=60)
    return raised.value.code(), raised.value.details()


def test_predict_answers_in_typed_fields_with_the_version_and_signature(stub: Any) -> None:
    response = stub.prediction.Predict(predicting(x=[[1.0, 2.0], [3.5, 4.0]]))
    assert (response.model_spec.name, response.model_spec.version.value, response.model_spec.signature_name) == (
        "toy", 10, "serving_default")
    assert list(response.outputs["total"].float_val) == [3.0, 7.5]
    assert response.outputs["double"].tensor_content == b""
    assert tf.make_ndarray(response.outputs["double"]).tolist() == [[2.0, 4.0], [7.0, 8.0]]


def test_an_output_filter_leaves_the_others_out(stub: Any) -> None:
    response = stub.prediction.Predict(predicting(x=[[1.0, 2.0]], output_filter=("total",)))
    assert set(response.outputs) == {"total"}


def test_strings_and_integers(stub: Any) -> None:
    response = stub.prediction.Predict(predicting(
        spec("words", version=10), text=[b"a", b"\xff"], number=np.array([1, 2**62])))
    assert list(response.outputs["raw_bytes"].string_val) == [b"a", b"\xff"]
    assert list(response.outputs["next"].int64_val) == [2, 2**62 + 1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
                                   "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128", "string"])
def test_every_type_survives_in_its_field_and_in_tensor_content(dtype: str) -> None:
    kind = tf.dtypes.as_dtype(dtype)
    array = np.array([[b"a", b""], [b"\xff", b"b"]], object) if dtype == "string" else \
        np.array([[0, 1], [3, 100]]).astype(kind.as_numpy_dtype)
    typed = tensor_protos.to_proto(array)
    assert (typed.dtype, typed.tensor_content) == (kind.as_datatype_enum, b"")
    assert tf.make_ndarray(typed).tolist() == array.tolist()
    for proto in (typed, tf.make_tensor_proto(array)):
        back = tensor_protos.to_array(tensor_pb2.TensorProto.FromString(proto.SerializeToString()))
        assert (back.dtype, back.shape, back.tolist()) == (array.dtype, array.shape, array.tolist())


def test_few_values_fill_a_tensor_up(stub: Any) -> None:
    few = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0])
    few.tensor_shape.CopyFrom(tf.TensorShape([2, 2]).as_proto())
    assert list(stub.prediction.Predict(predicting(x=few)).outputs["total"].float_val) == [3.0, 4.0]


def malformed(**changes: Any) -> tensor_pb2.TensorProto:
    shape = changes.pop("shape", [1, 2])
    proto = tensor_pb2.TensorProto(dtype=changes.pop("dtype", types_pb2.DT_FLOAT), **changes)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("proto", [
    malformed(tensor_content=b"123"), malformed(shape=[-1, 2], float_val=[1.0]), malformed(dtype=types_pb2.DT_INVALID),
    malformed(dtype=999, float_val=[1.0]), malformed(dtype=types_pb2.DT_FLOAT_REF), malformed(shape=[2**40, 2**40]),
    malformed(shape=[1] * 100, float_val=[1.0]), malformed(dtype=types_pb2.DT_VARIANT),
    malformed(dtype=types_pb2.DT_STRING, tensor_content=b"\xff"),
])
def test_a_malformed_tensor_is_refused(stub: Any, proto: tensor_pb2.TensorProto) -> None:
    assert refused(stub.prediction.Predict, predicting(x=proto)) == (INVALID, "tensor parsing error: x")


ONE = [[1.0, 2.0]]


@pytest.mark.parametrize(("request_", "code", "message"), [
    (predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
    (predicting(spec(name="")), INVALID, "ModelSpec has no name specified."),
    (predicting(spec(name="zzz"), x=ONE), NOT_FOUND, "Servable not found for request: Latest(zzz)"),
    (predicting(spec(version=9), x=ONE), NOT_FOUND, "Servable not found for request: Specific(toy, 9)"),
    (predicting(spec(version=0), x=ONE), NOT_FOUND, "Servable not found for request: Specific(toy, 0)"),
    (predicting(spec(version_label="x"), x=ONE), INVALID, "Unrecognized servable version label: x"),
    (predicting(spec("nope"), x=ONE), grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
    (predicting(y=ONE), INVALID, "Signature input alias: x(feed name: serving_default_x:0) not found in request and "
                                 "no default value provided. Inputs expected to be in the request {y}"),
    (predicting(), INVALID, "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing "
                            "but required: {x}."),
    (predicting(x=ONE, y=ONE), INVALID, "input size does not match signature: 2!=1 len({x,y}) != len({x}). Sent extra: "
                                        "{y}. Missing but required: {}."),
    (predicting(x=ONE, output_filter=("zz",)), INVALID, "output tensor alias not found in signature: zz Outputs "
                                                        "expected to be in the set {double,total}."),
    (predicting(x=ONE, output_filter=("total", "total")), INVALID, "duplicate output tensor alias: total"),
    (predicting(x=[[1, 2]]), INVALID, "Expects arg[0] to be float but int32 is provided"),
    (predicting(x=1.0), INVALID, "Invalid reduction dimension (1 for input with 0 dimension(s)"),
])
def test_predict_refuses(stub: Any, request_: Any, code: grpc.StatusCode, message: str) -> None:
    got, text = refused(stub.prediction.Predict, request_)
    assert got == code
    assert text.startswith(message)


def test_a_long_message_is_cut(stub: Any) -> None:
    code, text = refused(stub.prediction.Predict, predicting(spec("n" * 3000), x=ONE))
    assert (code, len(text), text[-12:]) == (grpc.StatusCode.FAILED_PRECONDITION, 1024 + 12, "...TRUNCATED")


def test_classify(stub: Any) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=spec("classify"))
    request.input.example_list.examples.extend([example(x=[0.5, 0.25]), example(x=[1.5, 2.5])])
    response = stub.prediction.Classify(request)
    assert [[(c.label, c.score) for c in one.classes] for one in response.result.classifications] == [
        [("c0", 0.5), ("c1", 0.25)], [("c0", 1.5), ("c1", 2.5)]]
    assert (response.model_spec.signature_name, response.model_spec.version.value) == ("classify", 10)


def test_regress_takes_a_context(stub: Any) -> None:
    request = regression_pb2.RegressionRequest(model_spec=spec("regress"))
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(example(x=[1.0, 1.0]))
    listed.examples.extend([tf.train.Example(), example(x=[2.0, 2.0])])
    assert [one.value for one in stub.prediction.Regress(request).result.regressions] == [2.0, 4.0]


@pytest.mark.parametrize(("signature", "examples", "message"), [
    ("", [example(x=[1.0, 1.0])], "No classification inputs found in SignatureDef: "),
    ("nope", [example(x=[1.0, 1.0])], "No signature was found with the name: nope"),
    ("classify", [], "Input is empty."),
    ("classify", [example()], "Feature: x (data type: float) is required"),
])
def test_classify_refuses(stub: Any, signature: str, examples: list[Any], message: str) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=spec(signature))
    request.input.example_list.examples.extend(examples)
    code, text = refused(stub.prediction.Classify, request)
    assert code == INVALID
    assert message in text


def multi(*tasks: tuple[model_pb2.ModelSpec, str]) -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest(
        tasks=[inference_pb2.InferenceTask(model_spec=asked, method_name=method) for asked, method in tasks])
    request.input.example_list.examples.append(example(x=[0.5, 0.25]))
    return request


def test_multi_inference(stub: Any) -> None:
    response = stub.prediction.MultiInference(multi((spec("classify"), CLASSIFY), (spec("regress"), REGRESS)))
    first, second = response.results
    assert [c.score for c in first.classification_result.classifications[0].classes] == [0.5, 0.25]
    assert [r.value for r in second.regression_result.regressions] == [0.75]
    assert (second.model_spec.signature_name, second.model_spec.version.value) == ("regress", 10)


@pytest.mark.parametrize(("request_", "code", "message"), [
    (multi(), INVALID, "ModelSpec has no name specified."),
    (multi((spec("classify"), CLASSIFY), (spec("regress", "other"), REGRESS)), INVALID,
     "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    (multi((spec("classify"), CLASSIFY), (spec("regress", ""), REGRESS)), INVALID,
     "Found ModelSpec with an empty model name."),
    (multi((spec("classify"), CLASSIFY), (spec("classify"), CLASSIFY)), INVALID,
     "Duplicate evaluation of signature: classify"),
    (multi((spec("nope"), CLASSIFY)), INVALID, "Requested signature not found in model graph: nope"),
    (multi((spec("classify"), "tensorflow/serving/predict")), grpc.StatusCode.UNIMPLEMENTED,
     "Unsupported signature method_name: tensorflow/serving/predict"),
])
def test_multi_inference_refuses(stub: Any, request_: Any, code: grpc.StatusCode, message: str) -> None:
    assert refused(stub.prediction.MultiInference, request_) == (code, message)


def test_metadata_is_every_signature(stub: Any) -> None:
    response = stub.prediction.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec(), metadata_field=["signature_def"]))
    assert (response.model_spec.name, response.model_spec.version.value) == ("toy", 10)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    assert set(definitions.signature_def["words"].inputs) == {"text", "number"}


@pytest.mark.parametrize(("fields", "message"), [
    ([], "GetModelMetadataRequest must specify at least one metadata_field"),
    (["signature_def", "assets"], "Metadata field assets is not supported"),
])
def test_metadata_refuses(stub: Any, fields: list[str], message: str) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(), metadata_field=fields)
    assert refused(stub.prediction.GetModelMetadata, asked) == (INVALID, message)


def test_status(stub: Any) -> None:
    [status] = stub.model.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(
        model_spec=spec(version=10))).model_version_status
    assert (status.version, status.state, status.status.error_code) == (10, 30, 0)


@pytest.mark.parametrize(("asked", "code", "message"), [
    (get_model_status_pb2.GetModelStatusRequest(), INVALID, "Missing ModelSpec"),
    (get_model_status_pb2.GetModelStatusRequest(model_spec=spec(name="zzz")), NOT_FOUND,
     "Could not find any versions of model zzz"),
    (get_model_status_pb2.GetModelStatusRequest(model_spec=spec(version=9)), NOT_FOUND,
     "Could not find version 9 of model toy"),
])
def test_status_refuses(stub: Any, asked: Any, code: grpc.StatusCode, message: str) -> None:
    assert refused(stub.model.GetModelStatus, asked) == (code, message)


def test_reload_replaces_the_models(serving: Path) -> None:
    with running({"toy": serving / "toy"}) as addresses, grpc.insecure_channel(addresses.grpc) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        model = model_service_pb2_grpc.ModelServiceStub(channel)
        request = model_management_pb2.ReloadConfigRequest()
        assert refused(model.HandleReloadConfigRequest, request)[0] == INVALID
        request.config.model_config_list.config.add(
            name="renamed", base_path=str(serving / "toy"), model_platform="tensorflow")
        assert model.HandleReloadConfigRequest(request, timeout=60).status.error_code == 0
        assert prediction.Predict(predicting(spec(name="renamed"), x=ONE)).model_spec.version.value == 10
        assert refused(prediction.Predict, predicting(x=ONE))[0] == NOT_FOUND
        request.config.model_config_list.config[0].model_platform = "caffe"
        assert refused(model.HandleReloadConfigRequest, request)[0] == INVALID
        assert prediction.Predict(predicting(spec(name="renamed"), x=ONE)).model_spec.name == "renamed"
