"""PredictionService and ModelService: TensorFlow Serving's own messages around `Core`, on grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError
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

from trt_pipeline.backends.base import Array
from trt_pipeline.model.contract import DEFAULT_SIGNATURE, SignatureContract
from trt_pipeline.serve import example_protos, models_config, tensor_protos
from trt_pipeline.serve.core import Classes, Core, Task, predict_signature
from trt_pipeline.serve.off_loop import off_loop
from trt_pipeline.serve.refusal import RefusalError, invalid
from trt_pipeline.serve.servable import Servable
from trt_pipeline.serve.store import Spec

OPTIONS = (("grpc.max_receive_message_length", 2**31 - 1), ("grpc.max_send_message_length", 2**31 - 1),
           ("grpc.so_reuseport", 0))
_LARGE = 2**18  # bytes or elements; larger messages are turned into arrays and back in a thread, not in the loop
_LONGEST_MESSAGE = 1024
_STATUS = {code.value[0]: code for code in grpc.StatusCode}

_Answer = TypeVar("_Answer")


def server(core: Core) -> grpc.aio.Server:
    """A server that answers both services, not started and on no port yet."""
    server = grpc.aio.server(options=OPTIONS, interceptors=(_Deserialization(),))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    return server


class _Deserialization(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Answers bytes that are no message with INTERNAL, as gRPC's C++ does; its Python makes UNKNOWN of them."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None

        async def answer(request: Any, context: Any) -> Any:
            if request is None:
                await context.abort(grpc.StatusCode.INTERNAL, "Error parsing the request: it is not of its type")
            return await handler.unary_unary(request, context)

        def deserialize(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError:
                return None

        return grpc.unary_unary_rpc_method_handler(answer, deserialize, handler.response_serializer)


class _Service:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def _answered(self, context: Any, model: str, api: str, answer: Awaitable[_Answer]) -> _Answer:
        try:
            with self._core.observed(model, api, "GRPC"):
                return await answer
        except RefusalError as refused:
            return await _abort(context, refused)


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Predict, Classify, Regress, MultiInference and GetModelMetadata."""

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(context, request.model_spec.name, "Predict", self._predict(request))

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(context, request.model_spec.name, "Classify", self._classify(request))

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(context, request.model_spec.name, "Regress", self._regress(request))

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = request.tasks[0].model_spec.name if request.tasks else ""
        return await self._answered(context, model, "MultiInference", self._multi_inference(request))

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(context, request.model_spec.name, "GetModelMetadata", self._metadata(request))

    async def _predict(self, request: Any) -> Any:
        with self._core.lease(_spec(request)) as servable:
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            signature = predict_signature(servable, name)
            feeds = await off_loop(request.ByteSize() >= _LARGE, _feeds, signature, request.inputs)
            outputs = await self._core.predict(servable, name, feeds, request.output_filter)
            response = predict_pb2.PredictResponse(model_spec=_model_spec(request, servable))
        size = sum(array.size for array in outputs.values())
        await off_loop(size >= _LARGE, _fill, response, outputs)
        return response

    async def _classify(self, request: Any) -> Any:
        with self._core.lease(_spec(request)) as servable:
            examples = await off_loop(request.ByteSize() >= _LARGE, example_protos.serialized, request.input)
            classes = await self._core.classify(servable, request.model_spec.signature_name, examples)
            return classification_pb2.ClassificationResponse(
                model_spec=_model_spec(request, servable), result=_classification(classes))

    async def _regress(self, request: Any) -> Any:
        with self._core.lease(_spec(request)) as servable:
            examples = await off_loop(request.ByteSize() >= _LARGE, example_protos.serialized, request.input)
            values = await self._core.regress(servable, request.model_spec.signature_name, examples)
            return regression_pb2.RegressionResponse(
                model_spec=_model_spec(request, servable), result=_regression(values))

    async def _multi_inference(self, request: Any) -> Any:
        tasks = [Task(task.model_spec.name, task.model_spec.signature_name, task.method_name)
                 for task in request.tasks]
        spec = _spec_of(request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec())
        response = inference_pb2.MultiInferenceResponse()
        with self._core.lease(spec) as servable:
            examples = await off_loop(request.ByteSize() >= _LARGE, example_protos.serialized, request.input)
            results = await self._core.multi_inference(servable, tasks, examples)
            for task, result in zip(request.tasks, results, strict=True):
                added = response.results.add(model_spec=_model_spec(task, servable))
                if isinstance(result, Classes):
                    added.classification_result.CopyFrom(_classification(result))
                else:
                    added.regression_result.CopyFrom(_regression(result))
        return response

    async def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        unknown = next((field for field in request.metadata_field if field != "signature_def"), None)
        if unknown is not None:
            raise invalid(f"Metadata field {unknown} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._core.lease(_spec(request)) as servable:
            response.model_spec.name, response.model_spec.version.value = servable.name, servable.version
            definitions = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in servable.signature_defs.items():
                definitions.signature_def[name].CopyFrom(definition)
        response.metadata["signature_def"].Pack(definitions)
        return response


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """GetModelStatus and HandleReloadConfigRequest."""

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(context, request.model_spec.name, "GetModelStatus", self._status(request))

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answered(context, "", "HandleReloadConfigRequest", self._reload(request))

    async def _status(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        asked = request.model_spec
        version = asked.version.value if asked.WhichOneof("version_choice") == "version" else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in self._core.states(asked.name, version):
            added = response.model_version_status.add(version=state.version, state=int(state.state))
            added.status.error_code = state.code
            added.status.error_message = state.message
        return response

    async def _reload(self, request: Any) -> Any:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid("ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                               "ModelConfigList is currently supported")
        config = models_config.of_proto(request.config)
        await asyncio.to_thread(self._core.reload, config)
        return model_management_pb2.ReloadConfigResponse(status={"error_code": 0})


async def _abort(context: Any, refused: RefusalError) -> NoReturn:
    message = refused.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "...TRUNCATED"
    await context.abort(_STATUS[int(refused.code)], message)
    raise AssertionError("abort raises")


def _spec(request: Any) -> Spec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return _spec_of(request.model_spec)


def _spec_of(asked: Any) -> Spec:
    choice = asked.WhichOneof("version_choice")
    return Spec(asked.name, asked.version.value if choice == "version" else None,
                asked.version_label if choice == "version_label" else None)


def _model_spec(request: Any, servable: Servable) -> Any:
    answer = model_pb2.ModelSpec(name=request.model_spec.name,
                                 signature_name=request.model_spec.signature_name or DEFAULT_SIGNATURE)
    answer.version.value = servable.version
    return answer


def _feeds(signature: SignatureContract, inputs: Mapping[str, Any]) -> dict[str, Array]:
    return signature.left_out(inputs) | tensor_protos.to_arrays(inputs)


def _fill(response: Any, outputs: Mapping[str, Array]) -> None:
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensor_protos.to_proto(array))


def _classification(classes: Classes) -> Any:
    result = classification_pb2.ClassificationResult()
    for row in classes.rows():
        added = result.classifications.add()
        for label, score in row:
            added.classes.add(label=label, score=score)
    return result


def _regression(values: Array) -> Any:
    result = regression_pb2.RegressionResult()
    for value in values.tolist():
        result.regressions.add(value=value)
    return result
