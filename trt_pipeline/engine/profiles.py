"""Optimization profiles: which shapes an engine serves, and which of its profiles a request belongs to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trt_pipeline.errors import InputError
from trt_pipeline.samples.profiles import Profile

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""Input -> its shape in one request."""


class Range(NamedTuple):
    """Smallest and largest shape of an input, and the one whose speed decides which kernels are chosen."""

    min: Shape
    opt: Shape
    max: Shape


EngineProfile = dict[str, Range]
"""Input -> its range; inputs whose shape is fixed have none."""


def make(inputs: Mapping[str, Sequence[int | None] | None], requests: Sequence[Shapes],
         given: Iterable[Profile] = ()) -> list[EngineProfile]:
    """The profiles of an engine.

    The first covers every request and every profile that is ``given``, for a server that looks at one
    profile only; then those that are given, which are narrower. None where no input has a free dimension.

    Args:
        inputs: input -> its shape in the network, None or -1 for a free dimension.
        requests: the shapes that serving will see, of the samples and their corners.
        given: the config's profiles; an input that one does not name has the requests' shapes, with its batch.

    Raises:
        InputError: there are no requests, or one does not fit the network.
    """
    if not requests:
        raise InputError("an engine needs requests to take its shapes from: give samples")
    dynamic = [name for name, shape in inputs.items() if shape is None or any(size in (None, -1) for size in shape)]
    for shapes in requests:
        _check(inputs, shapes)
    if not dynamic:
        return []
    usual = _usual(requests, dynamic)
    seen = {name: _hull([shapes[name] for shapes in requests], usual[name]) for name in dynamic}
    named = [one for one in (_named(profile, seen, inputs) for profile in given) if one]
    whole = {name: _hull([seen[name].min, seen[name].max, *(bound for one in named for bound in one[name])],
                         seen[name].opt) for name in dynamic}
    # Twice the same costs a build twice the time.
    return [whole, *(one for place, one in enumerate(named) if one != whole and one not in named[:place])]


def choose(profiles: Sequence[Mapping[str, Range]], shapes: Shapes) -> int:
    """The index of the narrowest profile that ``shapes`` are within, or -1 where there is none."""
    fitting = [(sum(math.prod(one.max) for one in profile.values()), place) for place, profile in enumerate(profiles)
               if all(_within(shapes[name], one) for name, one in profile.items())]
    return min(fitting)[1] if fitting else -1


def outside(profiles: Sequence[Mapping[str, Range]], shapes: Shapes) -> str:
    """What of ``shapes`` is in no profile, and what is, for the error message."""
    for name in shapes:
        ranges = [profile[name] for profile in profiles if name in profile]
        if ranges and not any(_within(shapes[name], one) for one in ranges):
            known = " or ".join(f"{list(one.min)} to {list(one.max)}" for one in ranges)
            return f"input '{name}' has shape {list(shapes[name])}, and the engine was built for {known}"
    return f"no profile has these shapes together: {', '.join(f'{name} {list(one)}' for name, one in shapes.items())}"


def as_json(profiles: Sequence[EngineProfile]) -> list[dict[str, Any]]:
    """``profiles`` as a worker is given them, and as they are shown."""
    return [{name: {"min": list(one.min), "opt": list(one.opt), "max": list(one.max)} for name, one in profile.items()}
            for profile in profiles]


def from_json(given: Sequence[Mapping[str, Mapping[str, Sequence[int]]]]) -> list[EngineProfile]:
    """What `as_json` wrote."""
    return [{name: Range(tuple(one["min"]), tuple(one["opt"]), tuple(one["max"])) for name, one in profile.items()}
            for profile in given]


def _usual(requests: Sequence[Shapes], dynamic: Sequence[str]) -> Shapes:
    """The shapes that most requests have, the larger where two are as frequent.

    It is one request's shapes, for the most frequent of each input need not fit together. The larger,
    because kernels that suit it lose little on the smaller, and not the other way round.
    """
    counts = Counter(tuple(tuple(shapes[name]) for name in dynamic) for shapes in requests)
    chosen = max(counts, key=lambda one: (counts[one], sum(map(math.prod, one))))
    return dict(zip(dynamic, chosen, strict=True))


def _hull(shapes: Sequence[Shape], opt: Shape) -> Range:
    return Range(tuple(map(min, zip(*shapes, strict=True))), tuple(opt), tuple(map(max, zip(*shapes, strict=True))))


def _named(profile: Profile, seen: Mapping[str, Range],
           inputs: Mapping[str, Sequence[int | None] | None]) -> EngineProfile:
    """``profile`` with every dynamic input; empty where it names none of them."""
    extents = {name: extent for name, extent in profile.items() if name in seen}
    if not extents:
        return {}
    batches = tuple(bound[0] for bound in _bounds(next(iter(extents.values()))))
    made: EngineProfile = {}
    for name, one in seen.items():
        if name in extents:
            made[name] = Range(*_bounds(extents[name]))
            continue
        shape = inputs[name]
        batched = bool(one.max) and (shape is None or shape[0] in (None, -1))
        made[name] = Range(*((batch, *bound[1:]) if batched else bound
                             for batch, bound in zip(batches, one, strict=True)))
    return made


def _bounds(extent: Any) -> tuple[Shape, Shape, Shape]:
    return extent.min, extent.opt, extent.max


def _check(inputs: Mapping[str, Sequence[int | None] | None], shapes: Shapes) -> None:
    for name, shape in inputs.items():
        if name not in shapes:
            raise InputError(f"a request has no input '{name}'")
        given = shapes[name]
        if 0 in given:
            raise InputError(f"a request has '{name}' in shape {list(given)}, of which an engine computes nothing: "
                             "leave such samples out")
        fits = shape is None or (len(shape) == len(given) and all(
            size in (None, -1, one) for size, one in zip(shape, given, strict=True)))
        if not fits:
            raise InputError(f"a request has '{name}' in shape {list(given)}, which the model does not take: it takes "
                             f"{['?' if size in (None, -1) else size for size in shape or ()]}")


def _within(shape: Shape, one: Range) -> bool:
    return len(shape) == len(one.min) and all(
        low <= size <= high for low, size, high in zip(one.min, shape, one.max, strict=True))
