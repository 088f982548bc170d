"""TensorFlow Serving's REST API as one function: a request in, a status and a body out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict

from trt_pipeline.model.contract import DEFAULT_SIGNATURE
from trt_pipeline.serve import json_body, json_examples, json_predict, routes
from trt_pipeline.serve.core import Core
from trt_pipeline.serve.off_loop import off_loop
from trt_pipeline.serve.refusal import Code, RefusalError, error_body, invalid
from trt_pipeline.serve.routes import Route
from trt_pipeline.serve.store import Spec

_LARGE = 2**16  # bytes or elements; larger bodies are read and written in a thread, not in the loop
_EVERY_FIELD = {name: True for name in ("including_default_value_fields", "always_print_fields_with_no_presence")
                if name in inspect.signature(MessageToDict).parameters}  # the second is its name since protobuf 5.26

_Result = TypeVar("_Result")


async def dispatch(core: Core, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Answer one request.

    Returns:
        The HTTP status and the JSON body. Every failure is such an answer too; what is not the
        client's doing is logged, and the client learns only that it happened.
    """
    try:
        route = routes.parse(method, path)
        with core.observed(route.name, route.verb, "REST"):
            return 200, await _answer(core, route, body)
    except routes.BareError as refused:
        return refused.code.http_status, b""
    except RefusalError as refused:
        return refused.code.http_status, error_body(refused.message)


async def _answer(core: Core, route: Route, body: bytes) -> bytes:
    if route.verb == "status":
        return _status(core, route)
    if route.verb == "metadata":
        return _metadata(core, route)
    document = await _parsing(len(body), json_body.read, body)
    if route.verb == "predict":
        return await _predict(core, route, document, len(body))
    name = json_body.signature_name(document)
    examples = await _parsing(len(body), json_examples.read, document)
    with core.lease(_spec(route)) as servable:
        if route.verb == "classify":
            classes = await core.classify(servable, name, examples)
            return await _parsing(len(body), json_examples.write_classes, classes)
        values = await core.regress(servable, name, examples)
    return await _parsing(len(values), json_examples.write_values, values)


async def _predict(core: Core, route: Route, document: dict[str, Any], size: int) -> bytes:
    name = json_body.signature_name(document)
    with core.lease(_spec(route)) as servable:
        signature = servable.contract.signatures.get(name or DEFAULT_SIGNATURE)
        if signature is None:
            raise invalid(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
        feeds = await _parsing(size, json_predict.read, document, signature)
        outputs = await core.predict(servable, signature.name, feeds)
    return await _parsing(sum(array.size for array in outputs.values()), json_predict.write, document, outputs)


def _status(core: Core, route: Route) -> bytes:
    """A label is ignored, as in TensorFlow Serving."""
    return _json({"model_version_status": [
        {"version": str(state.version), "state": state.state.name,
         "status": {"error_code": Code(state.code).name if state.code else "OK", "error_message": state.message}}
        for state in core.states(route.name, route.version)]})


def _metadata(core: Core, route: Route) -> bytes:
    with core.lease(_spec(route)) as servable:
        definitions = {name: MessageToDict(definition, preserving_proto_field_name=True, **_EVERY_FIELD)
                       for name, definition in sorted(servable.signature_defs.items())}
        return _json({
            "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
            "metadata": {"signature_def": {"signature_def": definitions}},
        })


def _spec(route: Route) -> Spec:
    return Spec(route.name, route.version, route.label)


async def _parsing(size: int, work: Callable[..., _Result], *arguments: Any) -> _Result:
    try:
        return await off_loop(size >= _LARGE, work, *arguments)
    except RecursionError:
        raise invalid("JSON Parse error: lists or objects are nested too deeply") from None


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
