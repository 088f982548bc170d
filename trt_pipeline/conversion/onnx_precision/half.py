"""FP16 or BF16 in an ONNX model by casts in the graph, around what the type cannot hold.

TensorRT from 10.12 on takes the types as the graph has them. What overflows on the samples, or leaves
nothing but zeros, stays in fp32; so do the model's inputs and outputs and what loops carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from trt_pipeline.calibration.ranges import Range, SignatureRanges
from trt_pipeline.conversion import halves
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.onnx_precision.bodies import Body, array
from trt_pipeline.conversion.onnx_precision.extents import Extents
from trt_pipeline.conversion.onnx_precision.insert import tidy
from trt_pipeline.conversion.onnx_precision.names import Names
from trt_pipeline.conversion.onnx_precision.opset import raise_opset
from trt_pipeline.conversion.onnx_precision.quantize import name_nodes, save
from trt_pipeline.conversion.onnx_precision.types import BFLOAT16, FLOAT, HALF, Types, takes
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.low_precision import LowPrecision

if TYPE_CHECKING:
    import onnx

_RUNTIMES = "ONNX Runtime and TensorRT have it in fp32 only"
_FP32_ONLY = {
    "Range": "its steps add up their rounding errors",
    "CumSum": "its sums add up their rounding errors",
    **dict.fromkeys(("NonMaxSuppression", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike",
                     "Multinomial", "Bernoulli", "RoiAlign", "GridSample", "EyeLike", "Det", "STFT", "DFT",
                     "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"), _RUNTIMES),
}
_CONTROL_FLOW = frozenset({"Loop", "If", "Scan"})
# Made of nothing that is float: casting the result is all that there is to do.
_SOURCES = frozenset({"ConstantOfShape", "Constant"})


_CODES = {"fp16": HALF, "bf16": BFLOAT16}
Half = Literal["fp16", "bf16"]


@dataclass(frozen=True)
class Decision:
    """Which nodes of a model compute in 16 bits: those of ``chosen``, by identity (`id`)."""

    bodies: list[Body]
    types: Types
    code: int
    chosen: frozenset[int]
    low: LowPrecision
    stayed: dict[str, str]
    """Every operation on floats that stays in fp32, with why, by scoped name."""
    in_fp32: tuple[onnx.NodeProto, ...]
    """The nodes of those operations."""


def to_half(source: Path, target: Path, graph: SignatureGraph, ranges: SignatureRanges, raised: frozenset[str],
            precision: Half) -> tuple[LowPrecision, dict[str, str]]:
    """Write the fp32 model ``source``, exported from ``graph``, to ``target`` with casts to 16 bits in it.

    Args:
        graph: the canonical graph.
        ranges: of the tensors of ``graph``.
        raised: scoped names of operations that stay in fp32.

    Returns:
        What of the weighted operations the graph has in ``precision`` (which kernels a runtime takes is
        another matter: `proof`), and every operation on floats that stays in fp32, with why.

    Raises:
        Unsupported: no weighted operation could be converted.
    """
    import onnx

    large = source.with_name(f"{source.name}.data").exists()
    model = onnx.load(str(source))
    decision = decide(model, source.parent, graph, ranges, raised, precision)
    _Writer(decision.bodies, decision.types, decision.chosen, decision.code).write()
    tidy(model)
    if decision.code == BFLOAT16:
        raise_opset(model)
    save(model, target, large)
    return decision.low, decision.stayed


def decide(model: onnx.ModelProto, folder: Path, graph: SignatureGraph, ranges: SignatureRanges,
           raised: frozenset[str], precision: Half) -> Decision:
    """Which nodes of ``model`` can be in 16 bits; nodes without a name get one.

    Args:
        model: exported from ``graph`` in fp32, its weights loaded.
        folder: where ``model`` was loaded from.
        graph: the canonical graph.
        ranges: of the tensors of ``graph``.
        raised: scoped names of operations that stay in fp32.

    Raises:
        Unsupported: no weighted operation can.
    """
    name_nodes(model)
    names = Names(graph, model)
    judge = _Judge(names, Types(names.bodies), Extents(names, ranges, str(folder)), raised, precision)
    chosen: set[int] = set()
    nodes: list[str] = []
    kept: dict[str, str] = {}
    stayed: dict[str, str] = {}
    in_fp32: list[onnx.NodeProto] = []
    for body in names.bodies:
        for node in body.graph.node:
            if not judge.concerns(body, node):
                continue
            name, why = names.node(body, node), judge.obstacle(body, node)
            if why:
                stayed.setdefault(name, why)
                in_fp32.append(node)
            else:
                chosen.add(id(node))
            if body.weighted(node):
                if why:
                    kept[name] = why
                else:
                    nodes.append(name)
    if not nodes:
        name, why = next(iter(kept.items()), ("it", "it has no convolution or matrix product with a constant weight"))
        raise Unsupported(f"no operation could be converted to {precision}: {name}: {why}")
    return Decision(names.bodies, judge.types, _CODES[precision], frozenset(chosen),
                    LowPrecision(precision=precision, nodes=tuple(nodes), kept=kept), stayed, tuple(in_fp32))


class _Judge:
    """Which operations can be in 16 bits."""

    def __init__(self, names: Names, types: Types, extents: Extents, raised: frozenset[str],
                 precision: str) -> None:
        self.names, self.types, self.extents, self.raised = names, types, extents, raised
        self.precision, self.code = precision, _CODES[precision]

    def concerns(self, body: Body, node: onnx.NodeProto) -> bool:
        """Whether ``node`` computes with floats at all."""
        if node.op_type in _CONTROL_FLOW | _SOURCES:
            return False
        if node.op_type == "Cast":  # from float it reads what there is
            return self.types.of(body, node.output[0]) == FLOAT != self.types.of(body, node.input[0])
        return any(self.types.of(body, name) == FLOAT for name in (*node.input, *node.output) if name)

    def obstacle(self, body: Body, node: onnx.NodeProto) -> str:
        """Why ``node`` stays in fp32; empty where it need not."""
        if self.names.node(body, node) in self.raised:
            return "raised"
        if node.op_type in _FP32_ONLY:
            return f"{node.op_type}: {_FP32_ONLY[node.op_type]}"
        outputs = [name for name in node.output if name and self.types.of(body, name) == FLOAT]
        if any(not takes(node, self.code, number, output=True) for number, name in enumerate(node.output)
               if name in outputs) or not (outputs or converted_inputs(body, node, self.types, self.code)):
            return f"{node.op_type}: {_RUNTIMES}"
        for _, extent in self.names.extents(body, node, self.extents.seen):
            if why := self._unheld(extent, "would"):
                return why
        read = [node.input[n] for n in converted_inputs(body, node, self.types, self.code)]
        return next(filter(None, (self._tensor(body, name) for name in (*outputs, *read))), "")

    def _tensor(self, body: Body, name: str) -> str:
        """Why ``name``, read or made in ``body``, cannot be in 16 bits."""
        constant = body.constant(name)
        extent = self._of_constant(constant) if constant is not None else self.extents.of(body, name)
        if extent is None:
            return ""
        measured = constant is not None or self.names.range(body, name, self.extents.seen) is not None
        return self._unheld(extent, "would" if measured else "could")

    def _of_constant(self, constant: onnx.TensorProto) -> Range | None:
        """Of the finite values only: infinity is held by all float types."""
        value = array(constant, self.extents.folder)
        value = value[np.isfinite(value)]
        return (float(value.min()), float(value.max())) if value.size else None

    def _unheld(self, extent: Range, mood: str) -> str:
        """``mood``: "would" of what was measured, "could" of a bound."""
        largest = max(abs(bound) for bound in extent)
        if largest > halves.LARGEST[self.precision]:
            return f"{mood} overflow: {largest:.1e}"
        if 0 < largest < halves.SMALLEST[self.precision]:
            return f"{mood} be all zero: {largest:.1e}"
        return ""


def converted_inputs(body: Body, node: onnx.NodeProto, types: Types, code: int) -> list[int]:
    """Which inputs of ``node`` it reads in 16 bits: of Resize not its sizes, scales and regions."""
    numbers = [0] if node.op_type == "Resize" else list(range(len(node.input)))
    return [n for n in numbers if node.input[n] and types.of(body, node.input[n]) == FLOAT and takes(node, code, n)]


class _Writer:
    """Gives each float tensor a twin in 16 bits where one is read: made at its source, or cast once."""

    def __init__(self, bodies: list[Body], types: Types, chosen: frozenset[int], code: int) -> None:
        self.bodies, self.types, self.chosen, self.code = bodies, types, chosen, code
        self._twins: dict[tuple[int, str], str] = {}
        self._needed: set[tuple[int, str]] = set()

    def write(self) -> None:
        for body in self.bodies:  # the tables, as the model was
            _ = body.makers, body.constants, body.inputs, body.outputs
        made = {(id(body), name): body for body in self.bodies for node in body.graph.node if id(node) in self.chosen
                for name in node.output if name and self.types.of(body, name) == FLOAT}
        for body in self.bodies:
            for node in list(body.graph.node):
                self._read(body, node, made)
            self._needed |= {(id(home), name) for name in body.outputs
                             if (home := body.home(name)) is not None}
        for (_, name), body in made.items():
            self._return(body, name)
        for body in self.bodies:
            del body.graph.value_info[:]

    def _read(self, body: Body, node: onnx.NodeProto, made: dict[tuple[int, str], Body]) -> None:
        numbers = converted_inputs(body, node, self.types, self.code) if id(node) in self.chosen else []
        for number, name in enumerate(node.input):
            home = body.home(name) if name else None
            if home is None:
                continue
            key = (id(home), name)
            if number in numbers or (node.op_type == "Cast" and key in made):
                node.input[number] = self._twin(home, name, key in made)
            else:
                self._needed.add(key)
        if id(node) in self.chosen and node.op_type == "Cast":
            next(a for a in node.attribute if a.name == "to").i = self.code

    def _twin(self, home: Body, name: str, made: bool) -> str:
        """The name of ``name`` in 16 bits; unless its maker makes it, a constant or a cast in its own graph."""
        key = (id(home), name)
        if key not in self._twins:
            twin = self._twins[key] = f"{name}/16bit"
            constant = home.constants.get(name)
            if constant is not None:
                home.graph.initializer.append(_converted(array(constant), twin, self.code))
            elif not made:
                _cast(home, name, twin, self.code)
        return self._twins[key]

    def _return(self, body: Body, name: str) -> None:
        """Let the maker of ``name`` make it in 16 bits, and cast that to fp32 for those who read it so."""
        twin = self._twin(body, name, made=True)
        maker = body.makers[name]
        maker.output[list(maker.output).index(name)] = twin
        if (id(body), name) in self._needed:
            _cast(body, twin, name, FLOAT)


def _cast(body: Body, source: str, result: str, code: int) -> None:
    node = body.graph.node.add(op_type="Cast", name=f"{source}/to_{code}", input=[source], output=[result])
    node.attribute.add(name="to", type=2, i=code)


def _converted(value: npt.NDArray[Any], name: str, code: int) -> onnx.TensorProto:
    from onnx import TensorProto, numpy_helper

    if code == HALF:
        return numpy_helper.from_array(value.astype(np.float16), name)
    bits = (halves.rounded(value, "bf16").view(np.uint32) >> np.uint32(16)).astype("<u2")
    return TensorProto(data_type=BFLOAT16, dims=value.shape, name=name, raw_data=bits.tobytes())
