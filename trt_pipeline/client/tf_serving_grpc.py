"""TensorFlow Serving's gRPC services, through the stubs of tensorflow-serving-api."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from trt_pipeline.client import failures, tf_serving
from trt_pipeline.client.answers import Label, Metadata, VersionStatus
from trt_pipeline.client.arrays import Array
from trt_pipeline.client.protocol import Bounds, Example, Library, Protocol, Spec, Steps
from trt_pipeline.errors import InputError, RequestError
from trt_pipeline.model.contract import SignatureContract

OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
_SIGNATURES = "signature_def"


class _Stubs:
    def __init__(self, channel: Any) -> None:
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)


class TFServingGrpc(Protocol):
    """PredictionService and ModelService."""

    def open(self) -> Library:
        channel = grpc.insecure_channel(self.target, OPTIONS)
        return Library(_Stubs(channel), channel.close)

    def open_async(self) -> Library:
        channel = grpc.aio.insecure_channel(self.target, OPTIONS)
        return Library(_Stubs(channel), channel.close)

    def error(self, error: Exception) -> RequestError | None:
        if not isinstance(error, grpc.RpcError):
            return None
        call: Any = error
        return failures.of_grpc(self, call.code().name, call.details() or "", call.debug_error_string())

    def predict_impl(self, spec: Spec, feeds: dict[str, Array], signature: str | None,
                     contract: SignatureContract | None, outputs: Sequence[str] | None,
                     timeout: Bounds) -> Steps[dict[str, Array]]:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        _name(request.model_spec, spec, signature)
        for name, array in feeds.items():
            try:
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            except (TypeError, ValueError) as error:
                raise InputError(f"input '{name}' cannot be sent: {error}") from None
        answer = yield lambda stubs: stubs.prediction.Predict(request, timeout=timeout or self.timeout)
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

    def metadata_impl(self, spec: Spec, timeout: Bounds) -> Steps[Metadata]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_SIGNATURES])
        _name(request.model_spec, spec)
        answer = yield lambda stubs: stubs.prediction.GetModelMetadata(request, timeout=timeout or self.timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata[_SIGNATURES].Unpack(signatures)
        return tf_serving.metadata(spec.name, {"model_spec": _plain(answer.model_spec)},
                                   _plain(signatures).get(_SIGNATURES, {}))

    def status(self, spec: Spec, timeout: Bounds) -> Steps[list[VersionStatus]]:
        request = get_model_status_pb2.GetModelStatusRequest()
        _name(request.model_spec, spec)
        answer = yield lambda stubs: stubs.model.GetModelStatus(request, timeout=timeout or self.timeout)
        return tf_serving.statuses(_plain(answer))

    def ready_impl(self, timeout: Bounds) -> Steps[bool]:
        try:
            # TensorFlow Serving has no request that is about no model; to refuse this one, it has to be there.
            yield from self.status(Spec(""), timeout)
        except RequestError as refused:
            return refused.code in ("INVALID_ARGUMENT", "NOT_FOUND")
        return True

    def classify(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                 timeout: Bounds) -> Steps[list[list[Label]]]:
        request = classification_pb2.ClassificationRequest()
        _name(request.model_spec, spec, signature)
        _add(request.input, examples)
        answer = yield lambda stubs: stubs.prediction.Classify(request, timeout=timeout or self.timeout)
        return [[Label(one.label, one.score) for one in found.classes] for found in answer.result.classifications]

    def regress(self, spec: Spec, examples: Sequence[Example], signature: str | None,
                timeout: Bounds) -> Steps[list[float]]:
        request = regression_pb2.RegressionRequest()
        _name(request.model_spec, spec, signature)
        _add(request.input, examples)
        answer = yield lambda stubs: stubs.prediction.Regress(request, timeout=timeout or self.timeout)
        return [found.value for found in answer.result.regressions]

    def describe(self, timeout: Bounds) -> Steps[str]:
        return "TensorFlow Serving's gRPC API, which tells no version"
        yield


def _name(model_spec: Any, spec: Spec, signature: str | None = None) -> None:
    model_spec.name = spec.name
    if spec.version is not None:
        model_spec.version.value = spec.version
    elif spec.label is not None:
        model_spec.version_label = spec.label
    if signature:
        model_spec.signature_name = signature


def _add(given: Any, examples: Sequence[Example]) -> None:
    for example in examples:
        feature = given.example_list.examples.add().features.feature
        for name, values in tf_serving.features(example).items():
            if values and isinstance(values[0], bytes):
                feature[name].bytes_list.value.extend(values)
            elif values and isinstance(values[0], float):
                feature[name].float_list.value.extend(values)
            else:
                feature[name].int64_list.value.extend(values)


def _plain(message: Any) -> dict[str, Any]:
    document: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return document
