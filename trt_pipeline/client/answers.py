"""What servers tell besides tensors."""

from __future__ import annotations

from typing import NamedTuple

from trt_pipeline.errors import RequestError
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import DEFAULT_SIGNATURE, SignatureContract
from trt_pipeline.suggest import did_you_mean


class Label(NamedTuple):
    """One class of a classified example."""

    label: str
    score: float


class Metadata(Frozen):
    """What a served model takes and gives.

    A Triton model is one signature, called as it was asked for, or as it is in the SavedModel where Triton knows that.
    """

    name: str
    version: int | None
    """None where the server does not say."""
    signatures: dict[str, SignatureContract]

    def signature(self, name: str | None = None) -> SignatureContract:
        """The signature called ``name``; without a name, ``serving_default`` or the only one.

        Raises:
            RequestError: there is none.
        """
        wanted = name or DEFAULT_SIGNATURE
        if name is None and len(self.signatures) == 1:
            wanted = next(iter(self.signatures))
        if wanted not in self.signatures:
            raise RequestError(f"model {self.name} has no signature '{wanted}': it has {', '.join(self.signatures)}"
                               f"{did_you_mean(wanted, self.signatures)}", "FAILED_PRECONDITION")
        return self.signatures[wanted]


class VersionStatus(Frozen):
    """One version of a served model."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END, as TensorFlow Serving has them."""
    code: str = "OK"
    """What kept it from loading; OK where nothing did."""
    message: str = ""
