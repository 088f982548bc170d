"""An in-toto Statement v1 of SLSA provenance v1: which files came from which build.

It is what a signature is put on (DSSE), and valid once it has a subject.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILDER = "https://github.com/trt-pipeline/trt-pipeline"
BUILD_TYPE = f"{BUILDER}/blob/main/docs/provenance.md#build-type-1"
FOLDER_DIGEST, VALUE_DIGEST = "trtPipelineFolder1", "trtPipelineValue1"
"""Algorithms of our own: `digest.of_folder`, and `digest.of_value` of several of those."""
Descriptor = dict[str, Any]
"""in-toto's ResourceDescriptor."""


def statement(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The Statement.

    Args:
        subjects: name -> SHA-256 of its bytes, in hex.
    """
    return {"_type": TYPE, "subject": [descriptor(name, subjects[name]) for name in sorted(subjects)],
            "predicateType": PREDICATE_TYPE, "predicate": predicate}


def predicate(*, external: Mapping[str, Any], internal: Mapping[str, Any], dependencies: Sequence[Descriptor],
              versions: Mapping[str, str], invocation: str, started: datetime, finished: datetime | None = None,
              byproducts: Sequence[Descriptor] = ()) -> dict[str, Any]:
    """The SLSA predicate.

    Args:
        external: what the user chose.
        internal: what the machine brought.
        dependencies: what the user's choice named, with its digests.
        versions: of what built.
        invocation: names this build among all.
        byproducts: what else came of it.
    """
    times = {"startedOn": _time(started)} | ({"finishedOn": _time(finished)} if finished else {})
    return {"buildDefinition": {"buildType": BUILD_TYPE, "externalParameters": dict(external),
                                "internalParameters": dict(internal), "resolvedDependencies": list(dependencies)},
            "runDetails": {"builder": {"id": BUILDER, "version": dict(versions)},
                           "metadata": {"invocationId": invocation, **times},
                           "byproducts": list(byproducts)}}


def descriptor(name: str, content: str, algorithm: str = "sha256", **more: Any) -> Descriptor:
    """A ResourceDescriptor of what has the digest ``content``."""
    return {"name": name, "digest": {algorithm: content}, **more}


def text(document: Mapping[str, Any]) -> bytes:
    """``document`` as JSON of RFC 8259: infinities become words."""
    plain = json.loads(json.dumps(document, default=str), parse_constant=str)
    return (json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
