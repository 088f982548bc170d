"""TensorFlow Serving's REST API as one function: a request in, a status and a body out."""

from __future__ import annotations

import json
import logging

from trt_pipeline.serve import predict, routes
from trt_pipeline.serve.models import ModelStore
from trt_pipeline.serve.refusal import RefusalError, error_body
from trt_pipeline.serve.routes import Route

_log = logging.getLogger(__name__)


def dispatch(store: ModelStore, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Answer one request.

    Returns:
        The HTTP status and the JSON body. Every failure is such an answer too; what is not the
        client's doing is logged, and the client learns only that it happened.
    """
    try:
        return 200, _answer(store, routes.parse(method, path), body)
    except RefusalError as refused:
        return refused.status, error_body(refused.message)
    except RecursionError:
        return 400, error_body("JSON Parse error: lists or objects are nested too deeply")
    except MemoryError:
        return 429, error_body("not enough memory for this request")
    except Exception:
        _log.exception("%s %s failed", method, path)
        return 500, error_body("internal error: see the server's log")


def _answer(store: ModelStore, route: Route, body: bytes) -> bytes:
    if route.verb == "status":
        return _status(store, route)
    if route.verb == "metadata":
        return _metadata(store, route)
    document = predict.read(body)
    name = predict.signature_name(document)
    model = store.find(route.name, route.version, route.label)
    signature = model.signature(name)
    outputs = model.infer(name, predict.feeds(document, signature))
    return predict.answer(document, signature, outputs)


def _status(store: ModelStore, route: Route) -> bytes:
    """A label is ignored, as in TensorFlow Serving. A model that is not loaded yet is available: a request loads it."""
    model = store.find_status(route.name, route.version)
    health = {"error_code": "UNAVAILABLE", "error_message": "cannot be loaded"} if model.failed else {
        "error_code": "OK", "error_message": ""}
    return _json({"model_version_status": [
        {"version": str(model.version), "state": "END" if model.failed else "AVAILABLE", "status": health}]})


def _metadata(store: ModelStore, route: Route) -> bytes:
    model = store.find(route.name, route.version, route.label)
    return _json({
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": model.signature_defs()}},
    })


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
