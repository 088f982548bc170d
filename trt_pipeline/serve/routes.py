"""Request paths of TensorFlow Serving's REST API."""

from __future__ import annotations

import re
from typing import Literal, get_args
from urllib.parse import unquote

from trt_pipeline.frozen import Frozen
from trt_pipeline.serve.refusal import Code, RefusalError, invalid

_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<verb>metadata))?", re.IGNORECASE)
_LARGEST_VERSION = 2**63 - 1
Verb = Literal["status", "metadata", "predict", "classify", "regress"]


class BareError(RefusalError):
    """A refusal that TensorFlow Serving sends without a body."""


class Route(Frozen):
    """What a request asks of which model; without a version, of its newest."""

    verb: Verb
    name: str
    version: int | None = None
    label: str | None = None


def parse(method: str, path: str) -> Route:
    """The route that ``method`` and ``path``, with its query if there is one, name.

    Raises:
        RefusalError: NOT_FOUND outside of ``/v1/``, INVALID_ARGUMENT where the path is malformed.
    """
    if not path.lower().startswith("/v1/"):
        raise RefusalError(Code.NOT_FOUND, f"Not found: {method} {path}; paths start with /v1/models/NAME")
    pattern = {"GET": _GET, "POST": _POST}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if not found:
        raise invalid(f"Malformed request: {method} {path}")
    if found["version"] and (len(found["version"]) > 30 or int(found["version"]) > _LARGEST_VERSION):
        raise BareError(Code.INVALID_ARGUMENT, f"Failed to convert version: {found['version']} to numeric.")
    if not found["name"]:
        raise invalid("Missing model name in request.")
    verb = found["verb"] or "status"
    if verb not in get_args(Verb):  # TensorFlow Serving matches any case, then knows lower case only
        if method == "POST":
            raise invalid(f"Malformed request: {method} {path}")
        verb = "status"
    return Route(verb=verb, name=unquote(found["name"]), version=int(found["version"]) if found["version"] else None,
                 label=unquote(found["label"]) if found["label"] else None)
