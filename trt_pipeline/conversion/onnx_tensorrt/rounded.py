"""A float32 model that rounds as a lower precision would, for ONNX Runtime's CPU to estimate with.

In fp16 and bf16 every tensor that is computed in 16 bits goes to that type and back, the weights too; sums are
in float32, as in the units that do the products on a GPU. In tf32 what products read loses its last 13 bits.
Nothing saturates: what overflows shows as infinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trt_pipeline.conversion.onnx_precision.bodies import WEIGHTED, Body, bodies_of
from trt_pipeline.conversion.onnx_precision.half import Decision, converted_inputs
from trt_pipeline.conversion.onnx_precision.insert import tidy
from trt_pipeline.conversion.onnx_precision.names import MOVING
from trt_pipeline.conversion.onnx_precision.types import FLOAT

if TYPE_CHECKING:
    import onnx

# Of what is rounded already they make nothing that would have to be rounded again.
_EXACT = MOVING | {"Slice", "Split", "Gather", "GatherND", "MaxPool", "GlobalMaxPool", "Concat", "Where", "Relu",
                   "Neg", "Abs", "Max", "Min", "Clip", "ReduceMax", "ReduceMin"}
# x * this, less what that has more than x, is x with 11 significant bits of float32's 24 (Veltkamp's splitting).
_SPLITTER = 2.0**13 + 1


def to_16_bits(model: onnx.ModelProto, decision: Decision) -> None:
    """Round, in place, what ``decision``, made of this very ``model``, has in 16 bits."""
    writer = _Rounding(decision)
    writer.write()
    tidy(model)


class _Rounding:
    """Gives each tensor that is read or made in 16 bits its rounded form, once."""

    def __init__(self, decision: Decision) -> None:
        self.bodies, self.types, self.chosen, self.code = (decision.bodies, decision.types, decision.chosen,
                                                           decision.code)
        self._made = {(id(body), name) for body in self.bodies for node in body.graph.node
                      if id(node) in self.chosen for name in self._floats(body, node)}
        self._rounded: dict[tuple[int, str], str] = {}

    def write(self) -> None:
        for body in self.bodies:
            for node in [node for node in body.graph.node if id(node) in self.chosen]:
                read = converted_inputs(body, node, self.types, self.code)
                exact = node.op_type in _EXACT and all(
                    number in read for number, name in enumerate(node.input)
                    if name and self.types.of(body, name) == FLOAT)
                for number in read:
                    node.input[number] = self._read(body, node.input[number])
                for name in self._floats(body, node) if not exact else ():
                    raw = f"{name}/exact"
                    node.output[list(node.output).index(name)] = raw
                    self._round(body, raw, name)
        for body in self.bodies:
            del body.graph.value_info[:]

    def _floats(self, body: Body, node: onnx.NodeProto) -> list[str]:
        return [name for name in node.output if name and self.types.of(body, name) == FLOAT]

    def _read(self, body: Body, name: str) -> str:
        """The name of ``name``, read in ``body``, rounded: its own where its maker computes in 16 bits."""
        home = body.home(name)
        if home is None or (id(home), name) in self._made:
            return name
        key = (id(home), name)
        if key not in self._rounded:
            self._rounded[key] = f"{name}/rounded"
            self._round(home, name, self._rounded[key])
        return self._rounded[key]

    def _round(self, body: Body, source: str, result: str) -> None:
        low = f"{result}/16bit"
        for given, made, code in ((source, low, self.code), (low, result, FLOAT)):
            node = body.graph.node.add(op_type="Cast", name=f"{made}/cast", input=[given], output=[made])
            node.attribute.add(name="to", type=2, i=code)


def to_tf32(model: onnx.ModelProto) -> None:
    """Round, in place, what the products of ``model`` read to 10 bits after the first; its weights may be elsewhere."""
    bodies = bodies_of(model)
    rounded: dict[tuple[int, str], str] = {}
    for body in bodies:
        for node in [node for node in body.graph.node if node.op_type in WEIGHTED and not node.domain]:
            for number in (0, 1):
                name = node.input[number]
                home = body.home(name)
                if home is None:
                    continue
                key = (id(home), name)
                if key not in rounded:
                    rounded[key] = f"{name}/tf32"
                    _split(home, name, rounded[key])
                node.input[number] = rounded[key]
    tidy(model)


def _split(body: Body, source: str, result: str) -> None:
    """Write ``result``, the leading 11 bits of ``source``; infinity stays what it is."""
    from onnx import numpy_helper

    stem = f"{result}/"
    body.graph.initializer.append(numpy_helper.from_array(np.array(_SPLITTER, np.float32), f"{stem}splitter"))
    steps = (("Mul", [source, f"{stem}splitter"], "scaled"), ("Sub", [f"{stem}scaled", source], "rest"),
             ("Sub", [f"{stem}scaled", f"{stem}rest"], "leading"), ("IsInf", [f"{stem}scaled"], "beyond"))
    for kind, inputs, made in steps:
        body.graph.node.add(op_type=kind, name=f"{stem}{made}", input=inputs, output=[f"{stem}{made}"])
    body.graph.node.add(op_type="Where", name=result, output=[result],
                        input=[f"{stem}beyond", source, f"{stem}leading"])
