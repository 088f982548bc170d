"""Request paths of TensorFlow Serving's REST API."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote

from trt_pipeline.frozen import Frozen
from trt_pipeline.serve.refusal import RefusalError

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + r"(?:/(?P<verb>metadata))?", re.IGNORECASE)
_NO_NAME = re.compile(r"/v1/models(?:/metadata)?", re.IGNORECASE)
_LARGEST_VERSION = 2**63 - 1


class Route(Frozen):
    """What a request asks of which model; without a version, of its newest."""

    verb: Literal["status", "metadata", "predict"]
    name: str
    version: int | None = None
    label: str | None = None


def parse(method: str, path: str) -> Route:
    """The route that ``method`` and ``path`` name; a query behind ``?`` says nothing.

    Raises:
        RefusalError: 404 outside of ``/v1/``, 400 where the path is malformed, 501 for classify and regress.
    """
    path = path.partition("?")[0]
    if not path.lower().startswith("/v1/"):
        raise RefusalError(404, f"Not found: {method} {path}; paths start with /v1/models/NAME")
    if method == "GET" and _NO_NAME.fullmatch(path):
        raise RefusalError(400, "Missing model name in request.")
    pattern = {"GET": _GET, "POST": _POST}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if not found:
        raise RefusalError(400, f"Malformed request: {method} {path}")
    verb = found["verb"] or "status"
    if verb in ("classify", "regress"):
        raise RefusalError(501, f"{verb} is not served here: use predict")
    if verb not in ("status", "metadata", "predict"):  # TensorFlow Serving matches any case, then takes lower case only
        raise RefusalError(400, f"Malformed request: {method} {path}")
    if found["version"] and (len(found["version"]) > 30 or int(found["version"]) > _LARGEST_VERSION):
        raise RefusalError(400, f"Failed to convert version: {found['version']} to numeric.")
    return Route(verb=verb, name=unquote(found["name"]), version=int(found["version"]) if found["version"] else None,
                 label=unquote(found["label"]) if found["label"] else None)
