"""What a loop carries from one turn to the next and makes longer, as decoders do with tokens and caches.

TensorRT wants the shape of carried state to be the same at each turn ("inputs to IRecurrenceLayer have different
dimensions"), and finds that out only where there is a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_pipeline.conversion.onnx_precision.bodies import Body, bodies_of

if TYPE_CHECKING:
    import onnx

_LENGTHENING = frozenset({"Concat", "Pad"})
# They hand on the lengths of their first input; Concat those of each. What slices may shorten again.
_PASSING = frozenset({"Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Gather", "GatherND", "Reshape"})


def lengthened(model: onnx.ModelProto) -> list[str]:
    """Names of the loop state, as the body receives it, that each turn makes longer."""
    loops = [body for body in bodies_of(model) if body.owner is not None and body.owner.op_type == "Loop"]
    return [f"{body.path}{state}" for body in loops for state in _states(body)]


def _states(body: Body) -> list[str]:
    carried = list(body.graph.input)[2:]  # the turn and the condition come first, and the condition is returned first
    return [given.name for given, returned in zip(carried, list(body.graph.output)[1:], strict=False)
            if _grows(body, returned.name, given.name)]


def _grows(body: Body, returned: str, given: str) -> bool:
    """Whether ``returned`` is ``given`` with more to it."""
    pending, seen = [(returned, False)], set()
    while pending:
        tensor, longer = pending.pop()
        if tensor == given and longer:
            return True
        node = body.makers.get(tensor)
        if node is None or (tensor, longer) in seen:
            continue
        seen.add((tensor, longer))
        if node.op_type in _LENGTHENING:
            pending += [(name, True) for name in (node.input if node.op_type == "Concat" else node.input[:1])]
        elif node.op_type in _PASSING:
            pending.append((node.input[0], longer))
    return False
