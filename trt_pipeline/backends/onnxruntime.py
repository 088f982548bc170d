"""ONNX Runtime: the fastest engine on most CPUs, at fp32, fp16 and int8."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_pipeline.backends.base import Array, Artifact, Backend, ConversionRequest, Runner, Support
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion import freeze, onnx_export, onnx_support
from trt_pipeline.conversion.canonical import canonical
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onnx_precision import half, proof, quantize
from trt_pipeline.errors import InputError, Unsupported
from trt_pipeline.files import folder_of
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.operations import Operation

_PACKAGES = ("onnx", "tf2onnx", "onnxruntime")


@dataclass(frozen=True)
class _Exported:
    """A signature in fp32."""

    graph: SignatureGraph
    file: Path
    facts: dict[str, Any]


class OnnxRuntime(Backend):
    """Writes one ONNX file a signature; runs on what ONNX Runtime finds: TensorRT, CUDA or the CPU."""

    name = "onnxruntime"
    precisions = ("fp32", "fp16", "int8")
    kind = "onnx"

    def __init__(self) -> None:
        self._kept: dict[str, _Exported] = {}

    def blocking(self, signature: SignatureContract, operations: Iterable[Operation]) -> list[tuple[Operation, str]]:
        return onnx_support.without_form(operations)

    def uses_ranges(self, precision: str, given: dict[str, Any]) -> bool:
        return precision in ("int8", "fp16")

    def support_impl(self, contract: Contract, precision: str) -> Support:
        lacking = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if lacking:
            return Support(ok=False, reason=f"{sys.executable} lacks {', '.join(lacking)}: {sys.executable} -m pip "
                                            f"install {' '.join(lacking)}")
        for signature in contract.signatures.values():
            for name, tensor in (signature.inputs | signature.outputs).items():
                if tensor.dtype == "string":
                    return Support(ok=False, reason=f"signature {signature.name}: '{name}' is a string; "
                                                    "list the numeric ones under 'signatures'")
        return Support(ok=True)

    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        ranges = request.read_ranges() if request.precision == "int8" or request.ranges else {}
        files: dict[str, str] = {}
        description: dict[str, Any] = {}
        low: dict[str, LowPrecision] = {}
        load = functools.cache(functools.partial(_load, request))
        for name in request.signatures:
            folder = target / folder_of(name)
            file = folder / "model.onnx"
            folder.mkdir(parents=True)
            exported = self._exported(request, contract.signatures[name], load, folder)
            description[name] = exported.facts
            if request.precision == "fp32":
                for part in exported.file.parent.iterdir():
                    part.rename(folder / part.name)
            else:
                low[name] = _lower(exported.file, file, exported.graph, request, name, ranges.get(name))
            if self.scratch is None:
                shutil.rmtree(exported.file.parent)
            files[name] = f"{folder.name}/model.onnx"
        return Artifact(kind=self.kind, files=files, description=description, low_precision=low)

    def _exported(self, request: ConversionRequest, signature: SignatureContract, load: Callable[[], Any],
                  folder: Path) -> _Exported:
        """A signature in fp32: as it was kept for this, or of the model that ``load`` loads, below ``folder``."""
        if signature.name in self._kept:
            return self._kept[signature.name]
        function = load().signatures[signature.name]
        whole = request.precision != "fp32"  # what is to be quantized is needed afterwards
        graph = canonical(function) if whole else freeze.for_export(function)
        file = (self.scratch / folder.name if self.scratch else folder) / "fp32" / "model.onnx"
        exported = _Exported(graph, file, onnx_export.export(graph, signature, file, consume=not whole))
        if self.scratch:
            self._kept[signature.name] = exported
        return exported

    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        return _Runner(artifact, folder, contract, threads)


class _Runner(Runner):
    """One ONNX Runtime session a signature."""

    def __init__(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None) -> None:
        super().__init__(contract)
        self.files = {name: folder / file for name, file in artifact.files.items()}
        self.threads = threads
        self._sessions: dict[str, Any] = {}

    def activate_impl(self) -> None:
        self._sessions = {name: session(file, self.threads) for name, file in self.files.items()}

    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if signature not in self._sessions:
            raise InputError(f"the candidate has no signature {signature}: it has {', '.join(self._sessions)}")
        session = self._sessions[signature]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    def deactivate_impl(self) -> None:
        self._sessions = {}


def session(file: Path, threads: int | None, on: Sequence[str] = ()) -> Any:
    """An `InferenceSession` of ``file``, on ``threads`` cores or as ONNX Runtime chooses.

    Args:
        on: execution providers; `providers` by default.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    return ort.InferenceSession(str(file), options, providers=list(on) or providers())


def providers() -> list[str]:
    """ONNX Runtime's execution providers on this machine, the fastest first, the CPU always last."""
    import onnxruntime as ort

    available = ort.get_available_providers()
    preferred = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in preferred if name in available]


def _load(request: ConversionRequest) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(request.model), tags=list(request.tags))


def _lower(fp32: Path, target: Path, graph: SignatureGraph, request: ConversionRequest, signature: str,
           ranges: SignatureRanges | None) -> LowPrecision:
    raised = frozenset(request.raised.get(signature, ()))
    if request.precision == "int8":
        if ranges is None:
            raise Unsupported(f"signature {signature} has not been calibrated: give it calibration samples")
        return quantize.quantize(fp32, target, graph, ranges, raised, "cpu")
    # Without ranges nothing is known to overflow.
    low, others = half.to_half(fp32, target, graph, ranges or SignatureRanges(ranges={}, extents={}), raised, "fp16")
    executed, _ = proof.really(target, "fp16").counts
    return low.model_copy(update={"others": others, "executed": executed})
