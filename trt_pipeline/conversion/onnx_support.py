"""Which TensorFlow operations have no ONNX form, told without converting anything."""

from __future__ import annotations

from collections.abc import Iterable

from trt_pipeline.model.operations import STRUCTURAL_OPS, Operation

# Rewritten by pattern in tf2onnx, so they have no handler of their own.
_REWRITTEN_OPS = frozenset({
    "While", "StatelessWhile", "If", "StatelessIf", "Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond",
    "ResourceGather", "RandomUniform", "RandomStandardNormal", "ControlTrigger",
    "TensorListReserve", "TensorListSetItem", "TensorListGetItem", "TensorListStack", "TensorListFromTensor",
    "TensorListElementShape", "TensorListLength", "EmptyTensorList", "TensorListPushBack", "TensorListPopBack",
})
_TABLE_PREFIXES = ("HashTable", "MutableHashTable", "LookupTable", "AnonymousHashTable", "InitializeTable")


def without_form(operations: Iterable[Operation]) -> list[tuple[Operation, str]]:
    """Those of ``operations`` that ONNX cannot have, each with why."""
    from tf2onnx import tfonnx  # noqa: F401  (importing it registers the handlers)
    from tf2onnx.handler import tf_op

    handled = {op for domain in tf_op.get_opsets().values() for opset in domain for op in opset}
    found: list[tuple[Operation, str]] = []
    for operation in operations:
        if operation.op in STRUCTURAL_OPS:
            continue
        if operation.op.startswith(_TABLE_PREFIXES):
            found.append((operation, "look-up tables stay in TensorFlow"))
        elif operation.op not in handled and operation.op not in _REWRITTEN_OPS:
            found.append((operation, "tf2onnx has no ONNX form for it"))
        elif operation.string:
            found.append((operation, "works on strings"))
    return found
