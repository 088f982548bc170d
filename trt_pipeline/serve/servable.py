"""One loaded version of a model: what it promises, and its answers."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from trt_pipeline.backends.base import Array
from trt_pipeline.errors import PipelineError, one_line
from trt_pipeline.model.contract import DEFAULT_SIGNATURE, Contract, SignatureContract
from trt_pipeline.model.saved_model import contract_of, read_meta_graph
from trt_pipeline.publish import versions
from trt_pipeline.serve.onnx_session import OnnxSession, signature_def
from trt_pipeline.serve.refusal import Code, RefusalError, invalid, of_tensorflow
from trt_pipeline.serve.tensorflow_session import TensorFlowSession

_log = logging.getLogger(__name__)


class Session(Protocol):
    """What runs a model's signatures; from any number of threads at once."""

    def run(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def close(self) -> None: ...


class Servable:
    """One loaded version.

    ``signature_defs`` maps a name to its SignatureDef message, the loader's own included; ``padding`` an input to the
    value that fills its second axis up to a common length, where the model's publication says so.
    """

    def __init__(self, name: str, version: int, folder: Path, contract: Contract, signature_defs: Mapping[str, Any],
                 session: Session, padding: Mapping[str, int]) -> None:
        self.name, self.version, self.folder = name, version, folder
        self.contract, self.signature_defs = contract, signature_defs
        self.padding = padding
        self._session = session

    def infer(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output of ``signature`` by name, of the types that it declares; strings are objects of bytes.

        Blocks while the model runs; any number of threads may call it at once. Inputs left out that have a default
        get it.

        Raises:
            RefusalError: FAILED_PRECONDITION, there is no such signature; INVALID_ARGUMENT, what TensorFlow Serving or
                the engine itself finds wrong with ``feeds``; other codes as the engine gives them.
        """
        known = self.contract.signatures.get(signature)
        if known is None:
            raise RefusalError(Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        check_inputs(known, self.signature_defs[signature], feeds)
        try:
            return self._session.run(signature, {**feeds, **known.left_out(feeds)})
        except Exception as error:
            refused = refusal_of(error)
            if refused.code in (Code.INTERNAL, Code.UNKNOWN):
                _log.error("model %s version %d, signature %s: %s", self.name, self.version, signature, error,
                           exc_info=not isinstance(error, RefusalError))
            raise refused from error

    def close(self) -> None:
        """Let go of the model's memory. There must be no `infer` under way."""
        self._session.close()


def load(name: str, version: int, folder: Path) -> Servable:
    """Load a version's folder: a SavedModel by TensorFlow, Triton's ``model.onnx`` by ONNX Runtime.

    Raises:
        RefusalError: NOT_FOUND, there is nothing to load; UNIMPLEMENTED, only Triton can; DATA_LOSS, the model is
            damaged; other codes as TensorFlow gives them.
    """
    published = versions.manifest_in(folder) or {}
    try:
        for saved_model in (folder, folder / "model.savedmodel"):
            if (saved_model / "saved_model.pb").is_file():
                return _load_saved_model(name, version, saved_model, published)
        if (folder / "model.onnx").is_file():
            return _load_onnx(name, version, folder, published)
    except Exception as error:
        refused = refusal_of(error)
        if refused.code == Code.INTERNAL and not isinstance(error, RefusalError):
            _log.exception("cannot load model %s version %d", name, version)
            refused = RefusalError(Code.INTERNAL, f"cannot load {folder}: {one_line(error)}")
        raise refused from error
    if (folder / "model.plan").exists():
        raise RefusalError(Code.UNIMPLEMENTED, f"{folder} holds a TensorRT plan: serve it with NVIDIA Triton")
    raise RefusalError(Code.NOT_FOUND, f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
                                       f"{folder}. Check that the directory exists and that you have the right "
                                       "permissions for accessing it.")


def refusal_of(error: Exception) -> RefusalError:
    """What ``error`` means to a client; nothing of what is unexpected is told."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, PipelineError):
        return RefusalError(Code.DATA_LOSS, one_line(error))
    return of_tensorflow(error) or RefusalError(Code.INTERNAL, "internal error: see the server's log")


def _load_saved_model(name: str, version: int, folder: Path, published: Mapping[str, Any]) -> Servable:
    meta_graph = read_meta_graph(folder)
    contract, definitions = contract_of(folder, meta_graph), dict(meta_graph.signature_def)
    session = TensorFlowSession(folder, contract.tags, {key: definitions[key] for key in contract.signatures})
    return Servable(name, version, folder, contract, definitions, session, _padding(published))


def _load_onnx(name: str, version: int, folder: Path, published: Mapping[str, Any]) -> Servable:
    # Triton has no signatures: only the publication knows of which one the file was made.
    session = OnnxSession(folder / "model.onnx", str(published.get("signature") or DEFAULT_SIGNATURE))
    definitions = {key: signature_def(value) for key, value in session.contract.signatures.items()}
    return Servable(name, version, folder, session.contract, definitions, session, _padding(published))


def _padding(published: Mapping[str, Any]) -> dict[str, int]:
    told = published.get("padding")
    return {name: value for name, value in told.items() if type(value) is int} if isinstance(told, dict) else {}


def check_inputs(signature: SignatureContract, definition: Any, given: Collection[str]) -> None:
    """Refuse inputs that are not the signature's, less those with a default, as TensorFlow Serving does.

    Args:
        definition: the SignatureDef, whose tensors' names an error repeats.

    Raises:
        RefusalError: INVALID_ARGUMENT.
    """
    sent, takes = set(given), set(signature.inputs)
    defaults = {name for name, tensor in signature.inputs.items() if tensor.default is not None}
    if len(sent) > len(takes) or (len(sent) < len(takes) and not defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(takes)} len({_set(sent)}) != len({_set(takes)}). "
            f"Sent extra: {_set(sent - takes)}. Missing but required: {_set(takes - sent)}.")
    for alias in sorted(takes - sent - defaults):
        raise invalid(
            f"Signature input alias: {alias}(feed name: {definition.inputs[alias].name}) not found in request and no "
            f"default value provided. Inputs expected to be in the request {_set(sent)}, or default input alias set: "
            f"{','.join(sorted(defaults))}")
    if sent - takes:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(sent & takes))}, request input: "
            f"{','.join(sorted(sent))}")


def _set(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
