"""The nodes of TensorFlow's oneDNN operations, as its stock wheels from 2.14 to 2.17 compute them.

Facts that the code below rests on, found by probing 2.14.1 and 2.17.1:

- Products take uint8 times int8 and one scale for the whole weight. Their MIN_FIRST mode with a float
  bias, which is meant for activations that go below zero, gives wrong numbers. SCALED mode with an
  int32 bias does what it says, so the zero point's share is put in that bias here, and the operation
  is told that the activation starts at zero.
- A convolution that adds a summand does so in the summand's own memory, and refuses where that is
  still to be read. Where the summand is signed the result ends at 127, though it is uint8.
- The plain names have kernels that do nothing: TensorFlow's layout pass turns the nodes into others
  that work, in graphs, not in functions that operations call while they run.
- Ranges and weights must be constants; the weight is then packed once.
"""

from __future__ import annotations

import numpy as np

from trt_pipeline.calibration.ranges import Range
from trt_pipeline.conversion.onednn.editing import (
    FLOAT,
    INT8,
    QINT8,
    QINT32,
    QUINT8,
    UINT8,
    Array,
    Editor,
    EightBit,
)

_CODES = 255
_SIGNED = 127
_LARGEST_BIAS = 2**31 - 1


def bounds(measured: Range) -> Range:
    """A measured range as 8 bits can take it: with zero in it, not empty, float32."""
    low, high = min(0.0, float(np.float32(measured[0]))), max(0.0, float(np.float32(measured[1])))
    return (low, high) if high - low > np.finfo(np.float32).tiny else (0.0, 1.0)


def limit(measured: Range) -> float:
    """What 127 stands for in a signed tensor of this range."""
    return max(map(abs, bounds(measured)))


def unsigned(editor: Editor, written: str, measured: Range, name: str) -> EightBit:
    """A float tensor as uint8 over its range."""
    low, high = bounds(measured)
    mode = "SCALED" if low == 0 else "MIN_FIRST"
    return EightBit(_quantize(editor, written, low, high, name, QUINT8, mode), False, low, high)


def signed(editor: Editor, written: str, measured: Range, name: str) -> EightBit:
    """A float tensor as int8, symmetric."""
    high = limit(measured)
    return EightBit(_quantize(editor, written, -high, high, name, QINT8, "SCALED"), True, -high, high)


def _quantize(editor: Editor, written: str, low: float, high: float, name: str, kind: int, mode: str) -> str:
    # By default ranges under 0.01 are widened.
    return editor.add("QuantizeV2", name, [written, editor.number(low), editor.number(high)], T=kind, mode=mode,
                      ensure_minimum_range=0.0)


def dequantized(editor: Editor, codes: EightBit) -> tuple[list[str], dict[str, object]]:
    """Inputs and attributes of the `Dequantize` of ``codes``, which must be signed or start at zero."""
    return ([codes.written, editor.number(codes.low), editor.number(codes.high)],
            {"T": codes.type, "mode": "SCALED", "dtype": FLOAT})


def product_bias(low: float, high: float, weight: Array, weight_limit: float, bias: Array | None) -> Array | None:
    """The int32 bias of a product whose activation is uint8 over [low, high]; None where it does not fit.

    Code c of the activation stands for low + c * step, so the sums of the weight's columns, times
    low / step, are added.
    """
    step = (high - low) / _CODES
    whole = weight.sum(axis=0, dtype=np.int64) * (low / step)
    if bias is not None:
        whole = whole + bias.astype(np.float64) / (step * weight_limit / _SIGNED)
    whole = np.rint(whole)
    return whole.astype(np.int32) if np.abs(whole).max(initial=0) < _LARGEST_BIAS else None


def product(editor: Editor, name: str, codes: EightBit, weight: Array, weight_limit: float, bias: Array,
            relu: Range | None = None) -> tuple[str, list[str], dict[str, object]]:
    """Operation, inputs and attributes of (rows, K) codes times (K, N) int8, plus int32 bias.

    The result is float, or with ``relu``, the range of the ReLU after it, uint8 over that.
    """
    span = codes.high - codes.low
    inputs = [codes.written, editor.constant(f"{name}/weight", weight, QINT8),
              editor.constant(f"{name}/bias", bias, QINT32), editor.number(0.0), editor.number(span),
              editor.number(-weight_limit), editor.number(weight_limit), editor.number(0.0),
              editor.number(bounds(relu)[1] if relu else 1.0)]
    attributes: dict[str, object] = {"T1": QUINT8, "T2": QINT8, "Tbias": QINT32, "input_quant_mode": "SCALED",
                                     "Toutput": QUINT8 if relu else FLOAT}
    return f"QuantizedMatMulWithBiasAnd{'ReluAndRequantize' if relu else 'Dequantize'}", inputs, attributes



def convolution(editor: Editor, name: str, codes: EightBit, convolution_attributes: dict[str, object],
                weight: Array, weight_limits: Array, bias: Array, output: Range, relu: bool,
                summand: EightBit | None = None, depthwise: bool = False) -> EightBit:
    """Add a convolution (NHWC, HWIO int8) with float bias, then ``summand``, then ReLU; its 8-bit result.

    With ``relu`` that is uint8 from zero to the end of ``output``, else int8. Depthwise ones have uint8
    input, a ReLU and no summand.
    """
    high = bounds(output)[1] if relu else limit(output)
    inputs = [codes.written, editor.constant(f"{name}/weight", weight, QINT8),
              editor.constant(f"{name}/bias", bias), editor.number(codes.low), editor.number(codes.high),
              editor.constant(f"{name}/weight_low", -weight_limits),
              editor.constant(f"{name}/weight_high", weight_limits),
              editor.number(0.0 if relu else -high), editor.number(high)]
    attributes: dict[str, object] = {
        **convolution_attributes, "Tinput": codes.type, "Tfilter": QINT8, "Tbias": FLOAT,
        "out_type": QUINT8 if relu else QINT8}
    middle = ""
    if summand is not None:
        inputs += [summand.written, editor.number(summand.low), editor.number(summand.high)]
        attributes["Tsummand"] = summand.type
        if summand.signed:
            # The result ends at code 127, not at 255: let 127 be the end of the range.
            high *= _CODES / _SIGNED
            inputs[8] = editor.number(high)
        middle = "SignedSum" if summand.signed else "Sum"
    op = f"Quantized{'Depthwise' if depthwise else ''}Conv2DWithBias{middle}And{'ReluAnd' if relu else ''}Requantize"
    return EightBit(editor.add(op, name, inputs, **attributes), not relu, 0.0 if relu else -high, high)


def pooling(editor: Editor, op: str, name: str, codes: EightBit, attributes: dict[str, object]) -> EightBit:
    """Add a pooling of ``codes``, which keeps their scale."""
    written = editor.add(f"Quantized{op}", name, [codes.written, editor.number(codes.low), editor.number(codes.high)],
                         T=codes.type, **attributes)
    return EightBit(written, codes.signed, codes.low, codes.high)


def padded(editor: Editor, name: str, codes: EightBit, amounts: str, kind: int) -> EightBit:
    """Add a padding with zeros, where zero is the code 0; ``kind`` is the DataType of ``amounts``.

    `Pad` takes twenty times as long for quantized types as for plain ones.
    """
    plain = INT8 if codes.signed else UINT8
    cast = editor.add("Bitcast", f"{name}/plain", [codes.written], T=codes.type, type=plain)
    wider = editor.add("Pad", f"{name}/padded", [cast, amounts], T=plain, Tpaddings=kind)
    written = editor.add("Bitcast", name, [wider], T=plain, type=codes.type)
    return EightBit(written, codes.signed, codes.low, codes.high)
