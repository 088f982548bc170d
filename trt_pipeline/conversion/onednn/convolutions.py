"""Convolutions with a constant weight, with the bias, the addition and the ReLU after them.

What lies between convolutions stays in 8 bits: padding, pooling, and the sums of residual blocks. A
float form is made only where something that is not int8 reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trt_pipeline.calibration.ranges import Range, SignatureRanges
from trt_pipeline.conversion import canonical
from trt_pipeline.conversion.onednn import quantized_ops, weights
from trt_pipeline.conversion.onednn.editing import FLOAT, Array, Editor, EightBit
from trt_pipeline.conversion.onednn.products import added_constant
from trt_pipeline.conversion.onednn.report import Report
from trt_pipeline.conversion.onednn.shapes import Shapes

if TYPE_CHECKING:
    from tensorflow.core.framework import node_def_pb2

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_RELUS = ("Relu", "Relu6")
_POOLINGS = ("MaxPool", "AvgPool")


@dataclass
class _Chain:
    """A convolution and what of the nodes after it goes with it."""

    node: node_def_pb2.NodeDef
    weight: Array
    bias: Array
    last: node_def_pb2.NodeDef
    relu: bool = False
    pool: node_def_pb2.NodeDef | None = None
    """A MaxPool between it and its ReLU, where TensorFlow's optimizer likes to have it: the order is all one."""
    summand: EightBit | None = None


def rewrite(editor: Editor, ranges: SignatureRanges, report: Report, shapes: Shapes) -> None:
    """Let the scope's convolutions compute in int8."""
    for node in _in_order(editor):
        name = editor.scope.node(node.name)
        why = "raised" if name in report.raised else _rewrite(editor, node, ranges, shapes)
        if why:
            report.kept[name] = why
        else:
            report.nodes.append(name)


def _in_order(editor: Editor) -> list[node_def_pb2.NodeDef]:
    """The scope's convolutions, each after those that it depends on."""
    found: list[node_def_pb2.NodeDef] = []
    seen: set[str] = set()
    for start in [node for node in editor.scope.nodes if node.op in _CONVOLUTIONS]:
        pending = [(start, False)]
        while pending:
            node, ready = pending.pop()
            if ready:
                if node.op in _CONVOLUTIONS:
                    found.append(node)
            elif node.name not in seen:
                seen.add(node.name)
                pending.append((node, True))
                pending += [(maker, False) for source in node.input
                            if (maker := editor.scope.maker(source)) is not None]
    return found


def _rewrite(editor: Editor, node: node_def_pb2.NodeDef, ranges: SignatureRanges, shapes: Shapes) -> str:
    """Make ``node`` and what goes with it int8, or say why not."""
    scope = editor.scope
    weight = canonical.constant(scope, node.input[1])
    if why := _refusal(node, weight):
        return why
    assert weight is not None
    source = _before_padding(editor, node.input[0])
    measured = ranges.of(canonical.root(scope, source))
    if measured is None:
        return "no range was measured of its input"
    chain = _chain(editor, node, weight)
    attributes, unpadded = _attributes(editor, node)
    codes = _existing(editor, unpadded)
    unsigned = quantized_ops.bounds(measured)[0] == 0 if codes is None else not codes.signed
    depthwise = node.op == "DepthwiseConv2dNative"
    if depthwise and not (unsigned and chain.relu):
        return "a depthwise convolution that does not stand between two ReLUs"
    _fuse_sum(editor, chain, unsigned, shapes)
    output = ranges.of(canonical.root(scope, editor.first(chain.last)))
    if output is None:
        return "no range was measured of its output"
    if codes is None:
        codes = _quantized(editor, unpadded, source, measured, node.name)
    quantized, limits = weights.quantize(_channels_last(node, weight), per_channel=True)
    quantized = quantized.reshape(weight.shape)
    result = quantized_ops.convolution(editor, f"{node.name}/int8", codes, attributes, quantized, limits, chain.bias,
                                       output, chain.relu, chain.summand, depthwise)
    if chain.pool is not None:
        result = _pooled(editor, chain.pool, result)
    key = editor.key(editor.first(chain.last))
    inputs, kinds = quantized_ops.dequantized(editor, result)
    editor.become(chain.last, "Dequantize", inputs, **kinds)
    editor.eight[key] = editor.eight[editor.key(editor.first(chain.last))] = result
    return ""


def _refusal(node: node_def_pb2.NodeDef, weight: Array | None) -> str:
    if weight is None:
        return "its weight is not constant"
    if node.attr["T"].type != FLOAT:
        return f"it computes in {weight.dtype}"
    if (node.attr["data_format"].s or b"NHWC") != b"NHWC":
        return "its channels come first"
    if not np.isfinite(weight).all():
        return "its weight is not finite"
    return ""


def _before_padding(editor: Editor, written: str) -> str:
    """The tensor whose range counts: padding with zeros adds none."""
    while (maker := editor.scope.maker(written)) is not None and _pads_with_zeros(editor, maker):
        written = maker.input[0]
    return written


def _pads_with_zeros(editor: Editor, node: node_def_pb2.NodeDef) -> bool:
    return node.op == "Pad" and canonical.constant(editor.scope, node.input[1]) is not None


def _attributes(editor: Editor, node: node_def_pb2.NodeDef) -> tuple[dict[str, object], str]:
    """Strides, dilations and padding of the int8 convolution, and the tensor that it reads.

    A Pad before it becomes padding of its own.
    """
    attributes: dict[str, object] = {"strides": node.attr["strides"],
                                     "dilations": list(node.attr["dilations"].list.i) or [1, 1, 1, 1]}
    padding = node.attr["padding"].s
    maker = editor.scope.maker(node.input[0])
    explicit = list(node.attr["explicit_paddings"].list.i) if padding == b"EXPLICIT" else []
    if padding == b"VALID" and maker is not None and _pads_with_zeros(editor, maker):
        amounts = canonical.constant(editor.scope, maker.input[1])
        if amounts is not None and amounts.shape == (4, 2) and not amounts[[0, 3]].any() and (amounts >= 0).all():
            return {**attributes, "padding": "VALID", "padding_list": amounts.reshape(-1).tolist()}, maker.input[0]
    if explicit:
        return {**attributes, "padding": "VALID", "padding_list": explicit}, node.input[0]
    return {**attributes, "padding": padding.decode()}, node.input[0]


def _channels_last(node: node_def_pb2.NodeDef, weight: Array) -> Array:
    """The weight with its output channels as the last axis: in a depthwise one they are the last two together."""
    return weight.reshape(*weight.shape[:2], -1) if node.op == "DepthwiseConv2dNative" else weight


def _chain(editor: Editor, node: node_def_pb2.NodeDef, weight: Array) -> _Chain:
    width = _channels_last(node, weight).shape[-1]
    chain = _Chain(node, weight, np.zeros(width, np.float32), node)
    reader = editor.only_reader(node)
    bias = added_constant(editor, reader, node, width) if reader is not None else None
    if reader is not None and bias is not None:
        chain.bias, chain.last = bias.astype(np.float32), reader
        reader = editor.only_reader(reader)
    if reader is not None and reader.op == "MaxPool" and _has_8_bit_form(reader):
        after = editor.only_reader(reader)
        if after is not None and after.op in _RELUS:
            chain.pool, reader = reader, after
    if reader is not None and reader.op in _RELUS:
        # ReLU6 is ReLU whose result ends at the end of its range, which is 6 or less.
        chain.relu, chain.last = True, reader
    return chain


def _fuse_sum(editor: Editor, chain: _Chain, unsigned: bool, shapes: Shapes) -> None:
    """Take the addition of a residual block, and the ReLU after it, into the convolution, where that is safe.

    The result is written over the summand, and TensorFlow refuses to do so while anything else is still to
    read it: every other reader must be something that the convolution waits for.
    """
    add = editor.only_reader(chain.last)
    relu = editor.only_reader(add) if add is not None and add.op in ("Add", "AddV2") else None
    if chain.relu or not unsigned or add is None or relu is None or relu.op not in _RELUS:
        return
    this = editor.first(chain.last)
    others = [source for source in add.input[:2] if editor.key(source) != editor.key(this)]
    if len(others) != 1:
        return
    other = others[0]
    summand = editor.eight.get(editor.key(other))
    if summand is None or editor.returned(other) or not shapes.same(editor, this, other):
        return
    waited = editor.ancestors(chain.node)
    if all(reader.name == add.name or reader.name in waited for reader in editor.readers(other)):
        chain.summand, chain.relu, chain.last = summand, True, relu


def _existing(editor: Editor, written: str) -> EightBit | None:
    """A tensor in 8 bits, where it can be had without quantizing: it comes from a convolution, perhaps by pooling."""
    key = editor.key(written)
    node = editor.scope.maker(written)
    if key in editor.eight or node is None:
        return editor.eight.get(key)
    if not (node.op == "Identity" or node.op in _POOLINGS or _pads_with_zeros(editor, node)):
        return None
    if node.op in _POOLINGS and not _has_8_bit_form(node):
        return None
    before = _existing(editor, node.input[0])
    if before is None:
        return None
    if node.op in _POOLINGS:
        after = _pooled(editor, node, before)
    elif node.op == "Pad":
        after = quantized_ops.padded(editor, f"{node.name}/int8", before, node.input[1], node.attr["Tpaddings"].type)
    else:
        after = before
    editor.eight[key] = after
    return after


def _has_8_bit_form(pool: node_def_pb2.NodeDef) -> bool:
    return (pool.attr["data_format"].s or b"NHWC") == b"NHWC" and pool.attr["padding"].s in (b"SAME", b"VALID")


def _pooled(editor: Editor, pool: node_def_pb2.NodeDef, codes: EightBit) -> EightBit:
    kinds: dict[str, object] = {key: pool.attr[key] for key in ("ksize", "strides", "padding")}
    return quantized_ops.pooling(editor, pool.op, f"{pool.name}/int8", codes, kinds)


def _quantized(editor: Editor, written: str, source: str, measured: Range, name: str) -> EightBit:
    """A float tensor in 8 bits; ``source`` is the same before padding, so that two paddings share it."""
    key = editor.key(source)
    if key not in editor.eight:
        signed = quantized_ops.bounds(measured)[0] < 0
        quantize = quantized_ops.signed if signed else quantized_ops.unsigned
        editor.eight[key] = quantize(editor, source, measured, f"{name}/int8/input")
    found = _existing(editor, written)
    assert found is not None
    return found
