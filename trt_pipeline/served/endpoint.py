"""Which served models answer for which signatures, found out before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from trt_pipeline.client.protocol import Spec
from trt_pipeline.client.server import Server
from trt_pipeline.config.candidates import precision_of
from trt_pipeline.config.schema import Config
from trt_pipeline.errors import InputError
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.publish import versions
from trt_pipeline.publish.layout import TRITON_FOLDER
from trt_pipeline.publish.triton import triton_name

UNCHANGED = "native"
"""The precision of the original, and of what nothing is known about."""


class Endpoint(Frozen):
    """What answers for one signature."""

    model: str
    version: int | None
    """The version that is judged, whatever else is loaded meanwhile; None where the server tells none."""
    signature: str | None
    """What the server calls it; None for a model of one signature."""
    contract: SignatureContract
    """As the server tells it."""


def find(server: Server, spec: Spec, contract: Contract, signatures: Sequence[str],
         published: Sequence[str]) -> dict[str, Endpoint]:
    """Signature -> what answers for it.

    Args:
        published: all signatures that the configuration publishes; the first has Triton's plain name.

    Raises:
        RequestError: the server has no such model, version, label or signature; its kind `UnreachableError`
            where none answers.
        InputError: what it has takes or gives other tensors, as a numeric core does.
    """
    triton = is_triton(server.address)
    found = {}
    for name in signatures:
        model = triton_name(spec.name, name, list(published)) if triton else spec.name
        metadata = server.metadata(model, version=spec.version, label=spec.label)
        served = next(iter(metadata.signatures.values())) if triton else metadata.signature(name)
        _check(model, contract.signatures[name], served)
        found[name] = Endpoint(model=model, version=metadata.version, signature=None if triton else name,
                               contract=served)
    return found


def is_triton(address: str) -> bool:
    """Whether Triton is spoken to there."""
    return address.startswith("triton+")


def published_precision(config: Config, address: str, endpoints: dict[str, Endpoint]) -> tuple[str, str]:
    """The precision of what is served, and how that is known: by the manifest of the publication of that version."""
    endpoint = next(iter(endpoints.values()))
    folder = (config.serving / TRITON_FOLDER if is_triton(address) else config.serving) / endpoint.model
    known = {} if endpoint.version is None else versions.manifest(folder, endpoint.version) or {}
    manifest = folder / str(endpoint.version) / versions.MANIFEST
    if "candidate" not in known:
        return UNCHANGED, f"there is no {manifest}"
    candidate = str(known["candidate"])
    return precision_of(candidate) or UNCHANGED, f"{manifest} says {candidate}"


def _check(model: str, original: SignatureContract, served: SignatureContract) -> None:
    for side in ("inputs", "outputs"):
        wanted, given = set(getattr(original, side)), set(getattr(served, side))
        if wanted != given:
            raise InputError(
                f"model {model} has the {side} {', '.join(sorted(given))} where signature {original.name} has "
                f"{', '.join(sorted(wanted))}: it is another model, or only the numeric core of this one, which "
                "'trt-pipeline validate' judges")
