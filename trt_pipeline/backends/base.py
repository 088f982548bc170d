"""The contract that every backend keeps: what it can do here, convert, load as a runner, describe.

A backend is one file that writes the `*_impl` methods; the public ones check state and results once,
here. Nothing outside a backend's file asks which backend it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from trt_pipeline import digest
from trt_pipeline.calibration import ranges
from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.errors import ConfigError, InputError, Unsupported
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.model.coverage import Coverage
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.model.operations import Operation
from trt_pipeline.samples.profiles import Profile
from trt_pipeline.samples.store import without_bfloat16

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
Request = tuple[str, dict[str, Array]]
"""A signature and one batch of its inputs by name."""
# A "tensorrt-savedmodel" has TensorRT segments: only a server on a GPU, with TF-TRT, can load it. Of a
# "tensorrt-plan", a signature's file is "<folder>/model.plan", and "<folder>/model.onnx" until that is built.
ArtifactKind = Literal["savedmodel", "onnx", "tensorrt-savedmodel", "tensorrt-plan"]
# What can run where an artifact cannot: its graph surgery alone, what its precision does to it, or
# the former while it writes down how large its numbers become.
StandIn = Literal["surgery", "estimate", "magnitudes"]
# What is done with a candidate in a worker.
Stage = Literal["convert", "finalize", "validate", "benchmark"]


CLIENT = "client"
"""Key of a signature's description: lines that say what a client does before and after its numeric core."""


class Artifact(Frozen):
    """What a conversion made: a folder, and what it is."""

    kind: ArtifactKind
    files: dict[str, str]
    """Signature -> its file or folder, relative to the artifact's folder."""
    description: dict[str, Any] = {}
    """Facts worth showing: operation counts, the share that runs in the asked precision, ..."""
    coverage: dict[str, Coverage] = {}
    """Signature -> what of it the backend took over, where that is not simply everything."""
    low_precision: dict[str, LowPrecision] = {}
    """Signature -> what of it really computes in the asked precision, where that is lower than the original's."""
    unestimated: str = ""
    """Why what its precision does cannot be estimated where it cannot run; empty where it can."""
    stand_ins: tuple[StandIn, ...] = ()
    """What can stand in for it where it cannot run, if that is not what all of its backend's have."""
    notes: tuple[str, ...] = ()
    """What people have to know of it, a line each."""
    built: dict[str, str] = {}
    """What its engines were built with (GPU, TensorRT, TensorFlow); empty where nothing is to be built, or was.

    ``version compatible`` is among them where later versions of TensorRT load the engines too."""
    also: dict[ArtifactKind, dict[str, str]] = {}
    """Other forms of the same candidate: kind -> signature -> its file or folder."""
    core: dict[str, SignatureContract] = {}
    """Signature -> contract of its numeric core, where that is all that the engine holds."""
    profiles: dict[str, tuple[Profile, ...]] = {}
    """Signature -> the optimization profiles of its engine, in its order; inputs of a fixed shape are in none."""

    def form(self, kinds: Iterable[ArtifactKind]) -> Artifact | None:
        """This artifact as the first of its forms, the main one first, that is among ``kinds``."""
        wanted = set(kinds)
        for kind, files in ({self.kind: self.files} | self.also).items():
            if kind in wanted:
                return self.model_copy(update={"kind": kind, "files": files, "also": {}})
        return None

    def without_graft(self, why: str) -> Artifact:
        """This artifact, saying ``why`` there is no SavedModel with its engines."""
        return self.model_copy(update={"notes": (*self.notes, f"no SavedModel with its engines: {why}")})

    def size_bytes(self, folder: Path) -> int:
        """Size of its files, in ``folder``, external weights and all its forms included; nothing counts twice."""
        named = {(folder / file).resolve() for files in (self.files, *self.also.values()) for file in files.values()}
        found = {part.resolve() for path in named for part in ([path] if path.is_file() else path.rglob("*"))}
        found |= {path.with_name(f"{path.name}.data") for path in named}
        return sum(part.stat().st_size for part in found if part.is_file())


class ConversionRequest(Frozen):
    """Everything that a conversion may depend on; its digest is the conversion's cache key."""

    model: Path
    tags: tuple[str, ...]
    signatures: tuple[str, ...]
    precision: str
    ranges: Path | None = None
    """The ranges file of a calibration (`calibration.ranges`); int8 needs it, and halves heed it."""
    raised: dict[str, tuple[str, ...]] = {}
    """Signature -> nodes to leave in float32, by scoped name: the candidate's islands."""
    options: dict[str, Any] = {}

    def read_ranges(self) -> dict[str, SignatureRanges]:
        """Signature -> its ranges.

        Raises:
            Unsupported: there is no ranges file.
            InputError: it is not one of this model.
        """
        if self.ranges is None:
            raise Unsupported(f"{self.precision} needs calibration samples: set samples.calibration in the config, or "
                              "give a ranges file")
        return ranges.read(self.ranges, digest.of_folder(self.model)).signatures


class Support(Frozen):
    """Whether a backend can take a model at a precision, on this machine, now."""

    ok: bool
    reason: str = ""


class Runner(ABC):
    """A loaded candidate, ready to answer; a context manager.

    Subclasses write `activate_impl`, `infer_impl` and, where they hold something, `deactivate_impl`.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._active = False

    def __enter__(self) -> Runner:
        self.activate()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.deactivate()

    def activate(self) -> None:
        """Load the candidate. Raises RuntimeError when it is loaded already."""
        if self._active:
            raise RuntimeError("the runner is active already")
        self.activate_impl()
        self._active = True

    def infer(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of ``signature`` by name, for one batch of inputs by name.

        Raises:
            RuntimeError: the runner is not active.
            InputError: the signature is unknown, or an input is missing or unknown.
        """
        if not self._active:
            raise RuntimeError("activate the runner first: use it in a with statement")
        known = self.contract.signature(signature)
        expected, left_out = known.inputs, known.left_out(feeds)
        missing = [n for n in expected if n not in feeds and n not in left_out]
        unknown = [n for n in feeds if n not in expected]
        if missing or unknown:
            what = f"input '{missing[0]}' is missing" if missing else f"there is no input '{unknown[0]}'"
            raise InputError(f"signature {signature}: {what}; it takes {', '.join(expected)}")
        outputs = self.infer_impl(signature, {**feeds, **left_out})
        return {name: without_bfloat16(value) for name, value in outputs.items()}

    def deactivate(self) -> None:
        """Let go of everything; a runner that is not active stays so."""
        if self._active:
            self._active = False
            self.deactivate_impl()

    @abstractmethod
    def activate_impl(self) -> None: ...

    @abstractmethod
    def infer_impl(self, signature: str, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def deactivate_impl(self) -> None:  # noqa: B027  (most have nothing to let go of)
        """Nothing to let go of, unless a subclass says so."""


class Backend(ABC):
    """What makes and runs candidates of one kind."""

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    kind: ClassVar[ArtifactKind]
    also: ClassVar[tuple[ArtifactKind, ...]] = ()
    """Kinds of the forms that it may make besides (`Artifact.also`)."""
    finalizes: ClassVar[bool] = False
    """Whether what it makes is only complete once `finalize` has built it for the GPU at hand."""
    servable_unbuilt: ClassVar[bool] = True
    """Whether servers can load what it makes before it is finalized, and finish it themselves."""
    grafts: ClassVar[bool] = False
    """Whether what it built can be put into the original model as well (`graft`)."""
    scratch: Path | None = None
    """A folder for what the next conversion of the same model, or the next build, can use again; None keeps nothing."""
    stands_in_for_itself: ClassVar[bool] = False
    """Whether what stands in for its candidates is no imitation, but their own file."""
    per_channel: ClassVar[bool] = True
    """Whether its int8 weights have a scale for each output channel."""
    symmetric: ClassVar[bool] = False
    """Whether its int8 activations are signed and centred on zero, as TensorRT's are."""

    def support(self, contract: Contract, precision: str) -> Support:
        """Whether this backend has ``precision`` for ``contract`` here and now."""
        if precision not in self.precisions:
            return Support(ok=False, reason=f"{self.name} has no {precision}: it has {', '.join(self.precisions)}")
        return self.support_impl(contract, precision)

    def convert(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact:
        """Convert into the new folder ``target``.

        Raises:
            Unsupported: the model cannot be taken; the message names signature and reason.
            RuntimeError: the conversion left a signature without a file.
        """
        asked = {name: contract.signatures[name] for name in request.signatures}
        support = self.support(contract.model_copy(update={"signatures": asked}), request.precision)
        if not support.ok:
            raise Unsupported(support.reason)
        artifact = self.convert_impl(request, contract, target)
        absent = [name for name in request.signatures if not (target / artifact.files.get(name, "\0")).exists()]
        if absent:
            raise RuntimeError(f"{self.name} made no file for signature {absent[0]}")
        return artifact

    def blocking(self, signature: SignatureContract, operations: Iterable[Operation]) -> list[tuple[Operation, str]]:
        """The operations that keep ``signature`` off this backend, each with why."""
        return []

    def check_options(self, given: dict[str, Any]) -> None:
        """Raise ConfigError where ``given``, from the config's ``backends`` section, is not what there is."""
        if given:
            raise ConfigError(f"backend {self.name} has no options: leave out {', '.join(given)}")

    def complete_options(self, given: dict[str, Any], libraries: Mapping[str, str]) -> dict[str, Any]:
        """``given`` with what is to be had from ``libraries``, package -> version, of its workers' interpreter."""
        return given

    def uses_ranges(self, precision: str, given: dict[str, Any]) -> bool:
        """Whether a conversion to ``precision`` with these options goes by a calibration's ranges."""
        return precision == "int8"

    def why_pending(self, artifact: Artifact) -> str:
        """Why ``artifact`` cannot run for real on this machine; empty where it can."""
        return ""

    def why_not_finalize(self, artifact: Artifact) -> str:
        """Why ``artifact`` cannot be built on this machine; empty where it can."""
        return self.why_pending(artifact)

    def finalize(self, artifact: Artifact, folder: Path, contract: Contract, requests: Sequence[Request],
                 calibration: Iterable[Request], profiles: tuple[Profile, ...], target: Path,
                 progress: Progress) -> Artifact:
        """Build ``artifact`` for this machine's GPU into the new folder ``target``.

        Args:
            requests: what serving will see, in every shape that it will have, those of ``profiles`` included.
            calibration: calibration samples, one at a time.
            profiles: those of the config.

        Raises:
            RuntimeError: something could not be built.
        """
        raise NotImplementedError(f"what {self.name} makes is complete")

    def runs_apart(self, stage: Stage, artifact: Artifact | None) -> bool:
        """Whether ``stage`` of ``artifact`` runs under the interpreter that the config names for this backend."""
        return True

    def core_requests(self, artifact: Artifact, folder: Path, contract: Contract,
                      requests: Iterable[Request]) -> Iterator[Request]:
        """What the cores of ``artifact`` (`Artifact.core`) are fed where its signatures get ``requests``."""
        raise NotImplementedError(f"what {self.name} makes has no cores")

    def graft(self, artifact: Artifact, folder: Path, contract: Contract, model: Path, target: Path) -> Artifact:
        """``artifact``, finalized in ``folder``, and besides as the original ``model`` with its engines in it.

        Args:
            target: the new folder of both forms.

        Raises:
            Unsupported: that cannot be made here; the message says why.
        """
        raise NotImplementedError(f"what {self.name} makes has one form only")

    def stand_ins(self, artifact: Artifact, precision: str) -> frozenset[StandIn]:
        """What can stand in for ``artifact`` where `why_pending` says that it cannot run.

        Raises:
            MissingError: nothing can.
        """
        kinds = {"surgery"} if precision == "fp32" or artifact.unestimated else get_args(StandIn)
        return frozenset(artifact.stand_ins or kinds)

    def stand_in(self, artifact: Artifact, folder: Path, contract: Contract, kind: StandIn) -> Runner | None:
        """A runner that stands in for ``artifact``; None where `write_stand_in` has to write a SavedModel for one."""
        return None

    def write_stand_in(self, artifact: Artifact, folder: Path, target: Path, kind: StandIn,
                       magnitudes: Path | None = None) -> None:
        """Write the SavedModel ``target`` that stands in for ``artifact`` where `why_pending` says it cannot run.

        Args:
            magnitudes: file that a stand-in of kind "magnitudes" writes to.
        """
        raise NotImplementedError(f"what {self.name} makes runs everywhere")

    def magnitudes(self, file: Path) -> dict[str, float]:
        """Tensor -> largest magnitude, from what a stand-in of kind "magnitudes" wrote."""
        raise NotImplementedError(f"what {self.name} makes runs everywhere")

    def coverage_of(self, model: Path, contract: Contract) -> dict[str, Coverage | str]:
        """Signature -> what this backend would take of it, or why it would take nothing; by trying.

        Raises:
            Unsupported: this machine cannot try.
        """
        return {}

    def support_impl(self, contract: Contract, precision: str) -> Support:
        """What depends on machine and model; by default nothing does."""
        return Support(ok=True)

    @abstractmethod
    def convert_impl(self, request: ConversionRequest, contract: Contract, target: Path) -> Artifact: ...

    @abstractmethod
    def load(self, artifact: Artifact, folder: Path, contract: Contract, threads: int | None = None) -> Runner:
        """A runner of the artifact in ``folder``, on ``threads`` cores or as the library chooses."""


def as_array(value: Any) -> Array:
    """A tensor, eager or not, as a numpy array; strings as bytes objects."""
    plain = value.numpy() if hasattr(value, "numpy") else value
    # As dtype S, numpy would drop the trailing NULs of a scalar string.
    return np.asarray(plain, dtype=object if isinstance(plain, bytes) else None)
