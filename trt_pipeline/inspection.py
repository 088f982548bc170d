"""What `inspect` tells: the contract, operation counts, and what keeps each signature off each backend."""

from __future__ import annotations

from pathlib import Path

from trt_pipeline.backends import BACKENDS, backend
from trt_pipeline.frozen import Frozen
from trt_pipeline.model import operations, saved_model
from trt_pipeline.model.contract import Contract
from trt_pipeline.model.coverage import Coverage
from trt_pipeline.model.operations import Blocker


class SignatureInspection(Frozen):
    """Operations of one signature."""

    operations: dict[str, int]
    """Type -> how many, most frequent first, structure left out."""
    blockers: dict[str, tuple[Blocker, ...]]
    """Backend -> what keeps the signature off it; empty where nothing is known to."""


class Inspection(Frozen):
    """Contract and operations of a SavedModel."""

    contract: Contract
    signatures: dict[str, SignatureInspection]
    coverage: dict[str, dict[str, Coverage | str]] = {}
    """Backend -> signature -> what it would take over of it, or why nothing; where that was tried."""


def inspect(path: Path, tags: tuple[str, ...] = ("serve",)) -> Inspection:
    """Read the SavedModel at ``path``; nothing is executed.

    Raises:
        ModelError: it is not a readable SavedModel.
    """
    contract = saved_model.read_contract(path, tags)
    meta_graph = saved_model.read_meta_graph(path, tags)
    found = {}
    for name, signature in contract.signatures.items():
        reached = operations.reachable(meta_graph, name)
        blocked = {}
        for backend_name in BACKENDS:
            try:
                blocked[backend_name] = tuple(operations.blockers(backend(backend_name).blocking(signature, reached)))
            except ModuleNotFoundError as error:
                why = f"needs the package {error.name}: pip install {error.name}"
                blocked[backend_name] = (Blocker(op="all", count=len(reached), example=reached[0].name, why=why),)
        found[name] = SignatureInspection(operations=operations.counts(reached), blockers=blocked)
    return Inspection(contract=contract, signatures=found)
