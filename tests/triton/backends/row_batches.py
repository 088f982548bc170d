"""Answers Triton's requests: those that fit together in one run of the model, each with its own rows or error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

Run = Callable[[dict[str, Any]], dict[str, Any]]
"""One run of a model: inputs by name in, outputs by name out."""


def answer(requests: Sequence[Any], inputs: Sequence[str], run: Run, batched: bool) -> list[Any]:
    """One response a request, in their order; with ``batched``, requests of equal rows share a run."""
    feeds = [{name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in inputs}
             for request in requests]
    groups: dict[Any, list[int]] = {}
    for number, feed in enumerate(feeds):
        key = tuple(value.shape[1:] for value in feed.values()) if batched else number
        groups.setdefault(key, []).append(number)
    responses: dict[int, Any] = {}
    for members in groups.values():
        responses.update(zip(members, _of_group([feeds[n] for n in members], run), strict=True))
    # A client may ask for some of the outputs only.
    return [_wanted(responses[number], request) for number, request in enumerate(requests)]


def _of_group(feeds: list[dict[str, Any]], run: Run) -> list[Any]:
    if len(feeds) == 1:
        return [_alone(feeds[0], run)]
    try:
        outputs = run({name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    except Exception:  # of one of them, whatever the library raises: the others are not to suffer for it
        return [_alone(feed, run) for feed in feeds]
    ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
    rows = {name: np.split(value, ends) for name, value in outputs.items()}
    return [{name: parts[number] for name, parts in rows.items()} for number in range(len(feeds))]


def _alone(feed: dict[str, Any], run: Run) -> Any:
    try:
        return run(feed)
    except Exception as error:  # the request's or the model's fault: the server lives on
        return error


def _wanted(answered: Any, request: Any) -> Any:
    if isinstance(answered, Exception):
        return triton.InferenceResponse(error=triton.TritonError(f"{type(answered).__name__}: {answered}"))
    names = set(request.requested_output_names())
    return triton.InferenceResponse([triton.Tensor(name, value) for name, value in answered.items() if name in names])
