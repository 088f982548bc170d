"""The models that are served: which versions there are, and the newest of each, loaded when first asked."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trt_pipeline.backends.base import Array
from trt_pipeline.backends.saved_model_runner import SavedModelRunner
from trt_pipeline.errors import ModelError
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.model.saved_model import read_contract, read_meta_graph
from trt_pipeline.serve.refusal import RefusalError, of_tensorflow

_log = logging.getLogger(__name__)
_NOT_MODELS = ("triton",)


def find_models(serving: Path) -> dict[str, Path]:
    """Name -> base path of every model below ``serving``.

    Raises:
        ModelError: there is none.
    """
    folders = sorted(serving.iterdir()) if serving.is_dir() else []
    found = {folder.name: folder for folder in folders
             if not folder.name.startswith(".") and folder.name not in _NOT_MODELS and versions_below(folder)}
    if not found:
        raise ModelError(f"no model below {serving}: run trt-pipeline optimize NAME first")
    return found


def versions_below(base: Path) -> dict[int, Path]:
    """Version -> its folder, ascending, of every SavedModel in a numeric folder of ``base``."""
    if not base.is_dir():
        return {}
    numeric = [p for p in base.iterdir() if p.name.isascii() and p.name.isdecimal()]
    return {int(p.name): p for p in sorted(numeric, key=lambda p: int(p.name)) if (p / "saved_model.pb").is_file()}


class Loaded(NamedTuple):
    """What there is of a version once it is loaded."""

    contract: Contract
    signature_defs: dict[str, Any]
    runner: SavedModelRunner


class ServedModel:
    """One version of one model. The first request that needs it loads it; others wait for that."""

    def __init__(self, name: str, version: int, folder: Path) -> None:
        self.name, self.version, self.folder = name, version, folder
        self.failed = False
        self._loaded: Loaded | None = None
        self._loading = threading.Lock()

    def signature(self, name: str) -> SignatureContract:
        """The signature called ``name``; a 400 where there is none."""
        signatures = self._load().contract.signatures
        if name not in signatures:
            raise RefusalError(400, f'Serving signature name: "{name}" not found in signature def')
        return signatures[name]

    def signature_defs(self) -> dict[str, Any]:
        """Every SignatureDef of the model as protobuf's JSON has it, all fields present."""
        return self._load().signature_defs

    def infer(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for ``feeds``; what TensorFlow finds wrong with them is refused in its words."""
        try:
            return self._load().runner.infer(signature, feeds)
        except Exception as error:
            refused = of_tensorflow(error)
            if refused is None:
                raise
            if refused.status >= 500:
                _log.error("model %s version %d: %s", self.name, self.version, error)
            raise refused from error

    def _load(self) -> Loaded:
        with self._loading:
            if self._loaded is None and not self.failed:
                try:
                    self._loaded = _load(self.folder)
                except Exception:
                    _log.exception("cannot load model %s version %d", self.name, self.version)
                    self.failed = True
            if self._loaded is None:
                raise RefusalError(503, f"Model {self.name} version {self.version} cannot be loaded: "
                                        "see the server's log")
            return self._loaded


class ModelStore:
    """Name -> the newest version below its base path, chosen once, at the start."""

    def __init__(self, models: Mapping[str, Path]) -> None:
        """
        Raises:
            ModelError: there are no models, or a base path has no version.
        """
        if not models:
            raise ModelError("no models to serve: run trt-pipeline optimize NAME first")
        self.models: dict[str, ServedModel] = {}
        for name, base in models.items():
            versions = versions_below(base)
            if not versions:
                raise ModelError(f"no version of {name} in {base}: it needs {base}/NUMBER/saved_model.pb; "
                                 "run trt-pipeline optimize NAME first")
            newest = max(versions)
            self.models[name] = ServedModel(name, newest, versions[newest])

    def find(self, name: str, version: int | None = None, label: str | None = None) -> ServedModel:
        """The model that a request names; 404 where it is not served, 400 for a label, as no model has one."""
        if label is not None:
            raise RefusalError(400, f"Unrecognized servable version label: {label}")
        model = self.models.get(name)
        if model is None or version not in (None, model.version):
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RefusalError(404, f"Servable not found for request: {asked}")
        return model

    def find_status(self, name: str, version: int | None = None) -> ServedModel:
        """As `find`, in the words of the status call."""
        model = self.models.get(name)
        if model is not None and version in (None, model.version):
            return model
        if version is None:
            raise RefusalError(404, f"Could not find any versions of model {name}")
        raise RefusalError(404, f"Could not find version {version} of model {name}")


def _load(folder: Path) -> Loaded:
    contract = read_contract(folder)
    definitions = {name: _json(definition) for name, definition in read_meta_graph(folder).signature_def.items()}
    runner = SavedModelRunner(contract, folder)
    runner.activate()
    return Loaded(contract, definitions, runner)


def _json(message: Any) -> dict[str, Any]:
    """``message`` as protobuf's JSON has it, all fields present; the option for that has another name since 5.26."""
    from google.protobuf.json_format import MessageToDict

    names = ("including_default_value_fields", "always_print_fields_with_no_presence")
    known = inspect.signature(MessageToDict).parameters
    everything = {name: True for name in names if name in known}
    document: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True, **everything)
    return document
