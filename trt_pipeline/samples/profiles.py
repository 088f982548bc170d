"""Optimization profiles: the shapes that an engine must serve, and samples brought to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from trt_pipeline.errors import ConfigError
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import SignatureContract

Array = npt.NDArray[Any]


class Extent(Frozen):
    """Smallest, usual and largest shape of one input, batch axis included."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    @model_validator(mode="after")
    def _ordered(self) -> Extent:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError(f"min, opt and max must have the same rank: {self}")
        if any(not 1 <= low <= usual <= high for low, usual, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"each dimension needs 1 <= min <= opt <= max: {self}")
        return self

    def __str__(self) -> str:
        return f"{list(self.min)}, {list(self.opt)}, {list(self.max)}"


Profile = dict[str, Extent]
"""Input -> its extent; inputs that are not named keep the samples' own shapes, the batch aside."""


def check(profiles: tuple[Profile, ...], signatures: Mapping[str, SignatureContract]) -> None:
    """Refuse a profile that no signature could be fed.

    Raises:
        ConfigError: it names an input that there is not, or its shapes do not fit the input's.
    """
    for profile in profiles:
        for name, extent in profile.items():
            shapes = [s.inputs[name].shape for s in signatures.values() if name in s.inputs]
            if not shapes:
                raise ConfigError(f"a profile names the input '{name}', which no signature has")
            for shape in shapes:
                fits = shape is None or (len(shape) == len(extent.min) and all(
                    size in (None, low) and size in (None, high)
                    for size, low, high in zip(shape, extent.min, extent.max, strict=True)))
                if not fits:
                    raise ConfigError(f"the profile of input '{name}' ({extent}) does not fit its shape {shape}")


def as_json(profiles: tuple[Profile, ...]) -> list[dict[str, Any]]:
    """``profiles`` as a worker is given them."""
    return [{name: extent.model_dump(mode="json") for name, extent in profile.items()} for profile in profiles]


def feeds(profiles: tuple[Profile, ...], signature: SignatureContract,
          sample: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Inputs of ``signature`` in each shape that ``profiles`` name, made by repeating and cutting ``sample``.

    Args:
        sample: a batch of real inputs by name.
    """
    for profile in profiles:
        named = {name: extent for name, extent in profile.items() if name in signature.inputs}
        if not named:
            continue
        for bound in ("min", "opt", "max"):
            shapes = {name: getattr(extent, bound) for name, extent in named.items()}
            batch = next(iter(shapes.values()))[0]
            yield {name: _of_shape(value, shapes.get(name, (batch, *value.shape[1:]))) for name, value in
                   sample.items()}


def _of_shape(array: Array, shape: tuple[int, ...]) -> Array:
    for axis, size in enumerate(shape):
        array = np.take(array, np.arange(size) % array.shape[axis], axis=axis)
    return array
