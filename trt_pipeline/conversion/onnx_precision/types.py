"""Element types of every tensor of an ONNX model, bodies included, by the operators' own schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_pipeline.conversion.onnx_precision.bodies import Body

if TYPE_CHECKING:
    import onnx

FLOAT, HALF, BFLOAT16 = 1, 10, 16
_NAMES = {HALF: "tensor(float16)", BFLOAT16: "tensor(bfloat16)"}
_OPSET = 17
# Operators whose output type is an attribute of theirs.
_BY_ATTRIBUTE = {"Cast": "to", "RandomNormal": "dtype", "RandomUniform": "dtype", "RandomNormalLike": "dtype",
                 "RandomUniformLike": "dtype", "EyeLike": "dtype", "Multinomial": "dtype", "Bernoulli": "dtype"}


class Types:
    """Tensor -> element type (``TensorProto.DataType``), for every graph of a model."""

    def __init__(self, bodies: list[Body]) -> None:
        self._of: dict[int, dict[str, int]] = {}
        self._inner = {(id(body.parent), id(body.owner), body.attribute): body for body in bodies}
        self._fill(bodies[0])

    def of(self, body: Body, tensor: str) -> int:
        """The type of ``tensor`` read in ``body``; 0 where it is unknown."""
        home: Body | None = body
        while home is not None:
            if tensor in self._of[id(home)]:
                return self._of[id(home)][tensor]
            home = home.parent
        return 0

    def _fill(self, body: Body) -> None:
        table = self._of[id(body)] = {value.name: value.type.tensor_type.elem_type for value in body.graph.input}
        table |= {name: tensor.data_type for name, tensor in body.constants.items()}
        for node in body.graph.node:
            inner = [found for attribute in node.attribute
                     if (found := self._inner.get((id(body), id(node), attribute.name))) is not None]
            for one in inner:
                self._fill(one)
            for number, output in enumerate(node.output):
                if output and output not in table:
                    table[output] = self._returned(node, inner[0], number) if inner else self._made(body, node, number)

    def _returned(self, node: onnx.NodeProto, body: Body, number: int) -> int:
        """What the body returns; the first thing that a loop's returns is its condition."""
        return self.of(body, body.graph.output[number + (node.op_type == "Loop")].name)

    def _made(self, body: Body, node: onnx.NodeProto, number: int) -> int:
        attributes = {a.name: a for a in node.attribute}
        key = _BY_ATTRIBUTE.get(node.op_type)
        if key is not None:
            if key in attributes:
                return int(attributes[key].i)
            return self.of(body, node.input[0]) if node.input else FLOAT
        if node.op_type == "ConstantOfShape":
            return int(attributes["value"].t.data_type) if "value" in attributes else FLOAT
        schema = schema_of(node, _OPSET)
        if schema is None:
            return 0
        variable = _formal(schema.outputs, number).type_str
        for place, name in enumerate(node.input):
            if name and _formal(schema.inputs, place).type_str == variable:
                return self.of(body, name)
        return _CONCRETE.get(variable, 0)


_CONCRETE = {"tensor(float)": FLOAT, "tensor(int64)": 7, "tensor(int32)": 6, "tensor(bool)": 9, "tensor(uint8)": 2,
             "tensor(int8)": 3}


def schema_of(node: onnx.NodeProto, version: int | None) -> Any:
    """The schema of ``node``'s operator at an opset, the newest by default; None where there is none."""
    import onnx

    version = version or onnx.defs.onnx_opset_version()
    if node.domain or not onnx.defs.has(node.op_type, version, ""):
        return None
    return onnx.defs.get_schema(node.op_type, version, "")


def takes(node: onnx.NodeProto, kind: int, number: int, output: bool = False) -> bool:
    """Whether input (or output) ``number`` of ``node`` may have the type ``kind``.

    For bfloat16 by the newest opset: older ones leave it out of lists in which runtimes have it (Conv).
    """
    schema = schema_of(node, None if kind == BFLOAT16 else _OPSET)
    if schema is None:
        return False
    formals = schema.outputs if output else schema.inputs
    if not formals:
        return False
    return _NAMES[kind] in _formal(formals, number).types


def _formal(formals: Any, number: int) -> Any:
    """The formal parameter; the last one stands for all that follow."""
    return formals[min(number, len(formals) - 1)]
