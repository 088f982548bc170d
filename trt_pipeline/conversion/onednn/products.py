"""Matrix products with a constant weight, with the bias and the ReLU after them.

The activation is quantized once for all products that read it. What stands around the product in
a Tensordot stays, but for the shape arithmetic that only served to flatten the activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trt_pipeline.calibration.ranges import Range, SignatureRanges
from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.onednn import quantized_ops, weights
from trt_pipeline.conversion.onednn.editing import FLOAT, QUINT8, Array, Editor, EightBit
from trt_pipeline.conversion.onednn.report import Report
from trt_pipeline.model.nodes import node_name

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2

# Under so many weights the extra operation costs more than int8 saves: measured on one core with VNNI for
# one to four rows at a time, which is what a decoding loop has, and for sixteen and more.
SMALLEST_IN_LOOP = 2**17
SMALLEST = 2**15
# One scale a column costs a pass over the result: taken where it makes the squared error this much smaller.
_WORTH_A_PASS = 4.0
_SAME_ELEMENTS = frozenset({"Reshape", "Squeeze", "ExpandDims", "Identity"})


@dataclass
class _Plan:
    node: node_def_pb2.NodeDef
    base: str
    """The activation before it was reshaped to (rows, K)."""
    flat: bool
    """Whether it is of that shape already."""
    measured: Range
    weight: Array
    limit: float
    columns: Array | None
    """What the result is to be multiplied with, by column; None where one scale does for all."""
    bias: Array
    reshape: node_def_pb2.NodeDef | None
    last: node_def_pb2.NodeDef
    relu: node_def_pb2.NodeDef | None = None
    relu_range: Range | None = None
    emitted: bool = False


def rewrite(editor: Editor, ranges: SignatureRanges, report: Report) -> None:
    """Let the scope's matrix products compute in int8 where that is possible and pays."""
    plans: dict[str, _Plan] = {}
    for node in [n for n in editor.scope.nodes if n.op == "MatMul"]:
        name = editor.scope.node(node.name)
        plan = "raised" if name in report.raised else _plan(editor, node, ranges)
        if isinstance(plan, str):
            report.kept[name] = plan
            _flatten(editor, node)
        else:
            plans[node.name] = plan
            report.nodes.append(name)
    before = {}
    for plan in plans.values():
        _fuse_relu(editor, plan, plans, ranges)
        if plan.relu is not None:
            before[editor.key(editor.first(plan.relu))] = plan
    for plan in plans.values():
        _emit(editor, plan, before)


def _plan(editor: Editor, node: node_def_pb2.NodeDef, ranges: SignatureRanges) -> _Plan | str:
    """How ``node`` becomes an int8 product, or why it does not."""
    scope = editor.scope
    weight = canonical.constant(scope, node.input[1])
    if why := _refusal(editor, node, weight):
        return why
    assert weight is not None
    measured = ranges.of(canonical.root(scope, node.input[0]))
    if measured is None:
        return "no range was measured of its input"
    weight = weight.T if node.attr["transpose_b"].b else weight
    by_column = weights.gain_per_channel(weight) >= _WORTH_A_PASS
    codes, limits = weights.quantize(weight, per_channel=by_column)
    limit = float(limits.max())
    reshape, bias, last = _what_follows(editor, node, weight.shape[1])
    columns = None
    if by_column:
        # The product is told one limit for all columns; each is brought to its own afterwards.
        columns = (limits / np.float32(limit)).astype(np.float32)
        bias = None if bias is None else bias / columns
    low, high = quantized_ops.bounds(measured)
    whole = quantized_ops.product_bias(low, high, codes, limit, bias)
    if whole is None:
        return "its bias is too large for its ranges"
    base = node.input[0]
    while (maker := scope.maker(base)) is not None and maker.op in _SAME_ELEMENTS:
        base = maker.input[0]
    return _Plan(node, base, base == node.input[0], measured, codes, limit, columns, whole, reshape, last)


def _refusal(editor: Editor, node: node_def_pb2.NodeDef, weight: Array | None) -> str:
    smallest = SMALLEST_IN_LOOP if _in_loop(editor) else SMALLEST
    if weight is None:
        return "its weight is not constant"
    if node.attr["T"].type != FLOAT:
        return f"it computes in {weight.dtype}"
    if node.attr["transpose_a"].b:
        return "its input is transposed"
    if not np.isfinite(weight).all():
        return "its weight is not finite"
    return f"small: {weight.size} weights, and int8 gains nothing under {smallest}" if weight.size < smallest else ""


def _in_loop(editor: Editor) -> bool:
    return ".body" in editor.scope.path


def _what_follows(editor: Editor, node: node_def_pb2.NodeDef,
                  width: int) -> tuple[node_def_pb2.NodeDef | None, Array | None, node_def_pb2.NodeDef]:
    """The Reshape and the bias after a product, and the last node that they leave."""
    reshape, last = None, node
    reader = editor.only_reader(node)
    if reader is not None and reader.op == "Reshape" and _last_size(editor, reader.input[1]) == width:
        reshape = last = reader
        reader = editor.only_reader(reader)
    bias = added_constant(editor, reader, last, width) if reader is not None else None
    if bias is not None and reader is not None:
        last = reader
    return reshape, bias, last


def added_constant(editor: Editor, node: node_def_pb2.NodeDef, to: node_def_pb2.NodeDef, width: int) -> Array | None:
    """The constant (width,) that ``node`` adds to the first output of ``to``; None where it does not."""
    if node.op == "BiasAdd" and (node.attr["data_format"].s or b"NHWC") == b"NHWC":
        sources = [node.input[1]]
    elif node.op in ("Add", "AddV2"):
        sources = [source for source in node.input[:2] if node_name(source) != to.name]
    else:
        return None
    value = canonical.constant(editor.scope, sources[0]) if len(sources) == 1 else None
    if value is None or value.size != width or value.shape[-1:] != (width,) or not np.isfinite(value).all():
        return None
    # With more axes than the tensor that it is added to it would give the sum more, too.
    if value.ndim > 1 and node.op != "BiasAdd":
        return None
    return value.reshape(-1)


def _last_size(editor: Editor, shape: str) -> int | None:
    """The last number of a shape, where it is constant."""
    value = canonical.constant(editor.scope, shape)
    maker = editor.scope.maker(shape)
    if value is None and maker is not None and maker.op in ("ConcatV2", "Pack"):
        parts = [source for source in maker.input if not source.startswith("^")]
        value = canonical.constant(editor.scope, parts[-2] if maker.op == "ConcatV2" else parts[-1])
    return int(value.reshape(-1)[-1]) if value is not None and value.size else None


def _fuse_relu(editor: Editor, plan: _Plan, plans: dict[str, _Plan], ranges: SignatureRanges) -> None:
    """Note the ReLU after a product, where only other int8 products read it: what passes between stays in 8 bits."""
    relu = editor.only_reader(plan.last)
    if relu is None or relu.op != "Relu" or plan.columns is not None:
        return
    measured = ranges.of(canonical.root(editor.scope, editor.first(relu)))
    if measured is not None and _all_products(editor, editor.first(relu), plans, ("Shape",)):
        plan.relu, plan.relu_range = relu, measured


def _all_products(editor: Editor, written: str, plans: dict[str, _Plan], others: tuple[str, ...] = ()) -> bool:
    """Whether a tensor goes nowhere but, reshaped or not, into int8 products, and operations of type ``others``."""
    readers = editor.readers(written)
    if not readers or editor.returned(written):
        return False
    for reader in readers:
        if reader.op in _SAME_ELEMENTS and reader.input[0] == written:
            if not _all_products(editor, editor.first(reader), plans):
                return False
        elif reader.op not in others and not (reader.name in plans and reader.input[0] == written):
            return False
    return True


def _emit(editor: Editor, plan: _Plan, before: dict[str, _Plan]) -> None:
    if plan.emitted:
        return
    plan.emitted = True
    if (producer := before.get(editor.key(plan.base))) is not None:
        _emit(editor, producer, before)
    name = plan.node.name
    codes = _activation(editor, plan)
    op, inputs, attributes = quantized_ops.product(
        editor, f"{name}/int8", codes, plan.weight, plan.limit, plan.bias, plan.relu_range)
    if plan.relu is not None and plan.relu_range is not None:
        written = editor.add(op, f"{name}/int8", inputs, **attributes)
        low, high = quantized_ops.bounds(plan.relu_range)
        editor.eight[editor.key(editor.first(plan.relu))] = EightBit(written, False, low, high)
        _reshape_for_shapes(editor, plan, written)
        return
    if plan.columns is not None:
        product = editor.add(op, f"{name}/int8", inputs, **attributes)
        op, inputs = "Mul", [product, editor.constant(f"{name}/int8/columns", plan.columns)]
        attributes = {"T": FLOAT}
    if plan.reshape is not None:
        flat = editor.add(op, f"{name}/int8/flat", inputs, **attributes)
        shape = plan.reshape.input[1]
        kind = plan.reshape.attr["Tshape"].type
        op, inputs, attributes = "Reshape", [flat, shape], {"T": FLOAT, "Tshape": kind}
    editor.become(plan.last, op, inputs, **attributes)


def _reshape_for_shapes(editor: Editor, plan: _Plan, codes: str) -> None:
    """Let those who ask for the shape of a ReLU that is gone read it from its codes."""
    assert plan.relu is not None
    asking = [reader for reader in editor.readers(editor.first(plan.relu)) if reader.op == "Shape"]
    if asking and plan.reshape is not None:
        codes = editor.add("Reshape", f"{plan.node.name}/int8/shaped", [codes, plan.reshape.input[1]], T=QUINT8,
                           Tshape=plan.reshape.attr["Tshape"].type)
    for reader in asking:
        reader.input[0] = codes
        reader.attr["T"].type = QUINT8


def _activation(editor: Editor, plan: _Plan) -> EightBit:
    """The activation as (rows, K) uint8."""
    width = plan.weight.shape[0]
    low, high = quantized_ops.bounds(plan.measured)
    key = f"{editor.key(plan.base)} {width} {low} {high}"
    if key not in editor.eight:
        name = f"{plan.node.name}/int8/input"
        known = editor.eight.get(editor.key(plan.base))
        if known is not None and not known.signed and (known.low, known.high) == (low, high):
            written = known.written if plan.flat else editor.rows_of(known.written, width, known.type, name)
            editor.eight[key] = EightBit(written, False, low, high)
        else:
            written = plan.base if plan.flat else editor.rows_of(plan.base, width, FLOAT, f"{name}/rows")
            editor.eight[key] = quantized_ops.unsigned(editor, written, plan.measured, name)
    return editor.eight[key]


def _flatten(editor: Editor, node: node_def_pb2.NodeDef) -> None:
    """Flatten the activation of a Tensordot that stays as it is without computing the shape."""
    weight = canonical.constant(editor.scope, node.input[1])
    reshape = editor.scope.maker(node.input[0])
    if (weight is None or reshape is None or reshape.op != "Reshape" or node.attr["transpose_a"].b
            or reshape.attr["T"].type != FLOAT):
        return
    width = weight.shape[1 if node.attr["transpose_b"].b else 0]
    node.input[0] = editor.rows_of(reshape.input[0], width, FLOAT, f"{node.name}/rows")
