"""The contract of a SavedModel: what a client of it may rely on."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.suggest import did_you_mean

Shape = tuple[int | None, ...]
DEFAULT_SIGNATURE = "serving_default"
"""The signature that servers take where a request names none."""
PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD = (
    f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))
WARM_UP = "tf_serving_warmup_requests"
"""The file in `assets.extra` whose requests TensorFlow Serving runs before a version counts as loaded."""
PROVENANCE_FOLDER = "trt_pipeline"
"""The folder in `assets.extra` where a publication says where it comes from."""


class TensorContract(Frozen):
    """One input or output. ``shape`` is None for an unknown rank; None in it is a free dimension."""

    dtype: str
    shape: Shape | None
    default: str | None = None
    """As JSON, where the signature declares one."""

    def default_array(self) -> npt.NDArray[Any]:
        """The declared default. Raises ValueError where there is none."""
        if self.default is None:
            raise ValueError("no default is declared")
        return np.array(json.loads(self.default), dtype=object if self.dtype == "string" else self.dtype)

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ",".join("-1" if d is None else str(d) for d in self.shape)
        return f"{self.dtype} ({dims})"

    @property
    def batched(self) -> bool:
        """Whether the leading axis is free, so that any number of samples may be fed at once."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None


class SignatureContract(Frozen):
    """One signature: inputs and outputs by name, in the order of the model's own argument list."""

    name: str
    method_name: str
    inputs: dict[str, TensorContract]
    outputs: dict[str, TensorContract]

    def left_out(self, given: Container[str]) -> dict[str, npt.NDArray[Any]]:
        """The inputs that are not ``given`` and have a default, which it is; TensorFlow's loader fills none in."""
        return {name: tensor.default_array() for name, tensor in self.inputs.items()
                if name not in given and tensor.default is not None}

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the signature insists on, or None where it is free."""
        leading = [t.shape[0] for t in self.inputs.values() if t.shape]
        return next((size for size in leading if size is not None), None)

    @property
    def batched(self) -> bool:
        """Whether every input's leading axis is free."""
        return bool(self.inputs) and all(t.batched for t in self.inputs.values())


class Contract(Frozen):
    """Everything that a publication must keep.

    ``assets`` and ``extra_assets`` map a path inside its folder to the SHA-256 of its bytes.
    """

    tags: tuple[str, ...]
    signatures: dict[str, SignatureContract]
    assets: dict[str, str]
    extra_assets: dict[str, str]
    tables: int
    variable_bytes: int
    tensorflow_version: str

    def signature(self, name: str) -> SignatureContract:
        """The signature called ``name``.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.signatures:
            known = list(self.signatures)
            raise ConfigError(f"no signature '{name}' in the model: it has {', '.join(known)}"
                              f"{did_you_mean(name, known)}")
        return self.signatures[name]


def differences(original: Contract, published: Contract) -> list[str]:
    """What ``published`` breaks of ``original``'s contract, a line each; empty when it is kept.

    Variables and the TensorFlow version that wrote the model are not part of what clients rely on; nor are warm-up
    requests that the original has none of, or what a publication says of itself.
    """
    found = list(_diff_value("tags", original.tags, published.tags))
    found += _diff_value("signature order", list(original.signatures), list(published.signatures))
    for name in original.signatures.keys() & published.signatures.keys():
        found += _diff_signature(original.signatures[name], published.signatures[name])
    found += _diff_value("assets", original.assets, published.assets)
    before, after = ({name: content for name, content in one.extra_assets.items()
                      if not name.startswith(f"{PROVENANCE_FOLDER}/")
                      and (name != WARM_UP or name in original.extra_assets)} for one in (original, published))
    found += _diff_value("assets.extra", before, after)
    found += _diff_value("tables", original.tables, published.tables)
    return found


def _diff_signature(original: SignatureContract, published: SignatureContract) -> Iterator[str]:
    where = f"signature {original.name}"
    yield from _diff_value(f"{where}: method name", original.method_name, published.method_name)
    for side in ("inputs", "outputs"):
        before: dict[str, TensorContract] = getattr(original, side)
        after: dict[str, TensorContract] = getattr(published, side)
        yield from _diff_value(f"{where}: {side}", list(before), list(after))
        for key in before.keys() & after.keys():
            yield from _diff_value(f"{where}: {side} {key}", str(before[key]), str(after[key]))
            yield from _diff_value(f"{where}: {side} {key} default", before[key].default, after[key].default)


def _diff_value(what: str, before: object, after: object) -> Iterator[str]:
    if before != after:
        yield f"{what}: {before} became {after}"
