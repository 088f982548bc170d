"""The inputs and outputs of an ONNX model in types that an engine can have.

TensorRT before 10 has no int64, all its versions keep int8 for quantized numbers and uint8 for what is
cast to or from floats at once, and none has the rest. What fits in int32 becomes that, under its own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trt_pipeline.conversion.onnx_precision.bodies import Body, bodies_of
from trt_pipeline.conversion.onnx_precision.types import Types
from trt_pipeline.engine import generation
from trt_pipeline.engine.generation import Version
from trt_pipeline.errors import Unsupported
from trt_pipeline.model.contract import SignatureContract

if TYPE_CHECKING:
    import onnx

_PLAIN = frozenset({"float32", "float16", "int32", "bool"})
# int32 holds all that they hold, but an engine computes with none of them.
_SMALL = frozenset({"int8", "uint8", "int16", "uint16"})
_INT32, _INT64 = 6, 7
_FLOATS = frozenset({1, 10})


def refuse(signature: SignatureContract) -> None:
    """Refuse a signature that no engine can have at its ends.

    Raises:
        Unsupported: the dtype of an input or output has no form in TensorRT, or its rank is not known.
    """
    for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for name, tensor in tensors.items():
            what = f"signature {signature.name}: {side} '{name}'"
            if tensor.dtype not in _PLAIN | _SMALL | {"int64"}:
                raise Unsupported(f"{what} is {tensor.dtype}, which TensorRT has not; cast it outside of the engine")
            if side == "input" and tensor.shape is None:
                raise Unsupported(f"{what} has no known rank, which TensorRT needs; export the model with its shape")


def to_narrow(model: onnx.ModelProto, signature: SignatureContract, version: Version) -> dict[str, str]:
    """The inputs and outputs of ``model``, exported from ``signature``, that have to be int32, with their dtype."""
    bodies = bodies_of(model)
    found: dict[str, str] = {}
    for tensors, at_once in ((signature.inputs, _only_to_floats), (signature.outputs, _from_floats)):
        for name, tensor in tensors.items():
            small = tensor.dtype in _SMALL and not (tensor.dtype == "uint8" and at_once(bodies, name))
            if small or (tensor.dtype == "int64" and not generation.has_int64(version)):
                found[name] = tensor.dtype
    return found


def narrow(model: onnx.ModelProto, names: dict[str, str], signature: str) -> None:
    """Make inputs and outputs of ``model``, by name with their dtype, int32; integers beyond it do not fit any more.

    Raises:
        Unsupported: the model computes with integers of 8 or 16 bits.
    """
    bodies = bodies_of(model)
    for value in model.graph.input:
        if value.name in names:
            _narrow_input(bodies, value, names[value.name], signature)
    for value in model.graph.output:
        if value.name in names:
            _narrow_output(bodies, value, names[value.name], signature)


def _readers(bodies: list[Body], name: str) -> Iterator[onnx.NodeProto]:
    for body in bodies:
        yield from (node for node in body.graph.node if name in node.input)


def _only_to_floats(bodies: list[Body], name: str) -> bool:
    return all(node.op_type == "Cast" and node.attribute[0].i in _FLOATS for node in _readers(bodies, name))


def _from_floats(bodies: list[Body], name: str) -> bool:
    maker = bodies[0].makers.get(name)
    return maker is not None and maker.op_type == "Cast" and Types(bodies).of(bodies[0], maker.input[0]) in _FLOATS


def _narrow_input(bodies: list[Body], value: onnx.ValueInfoProto, dtype: str, signature: str) -> None:
    name = value.name
    value.type.tensor_type.elem_type = _INT32
    others = [node for node in _readers(bodies, name) if node.op_type != "Cast"]  # casts read the int32 as well
    returned = any(name in (output.name for output in body.graph.output) for body in bodies[1:])
    if not others and not returned:
        return
    _refuse_inside(dtype, "input", name, signature)
    wide = f"{name}/{dtype}"
    _rename_reads(bodies, name, wide)
    bodies[0].graph.node.insert(0, _cast(name, wide, _INT64))


def _narrow_output(bodies: list[Body], value: onnx.ValueInfoProto, dtype: str, signature: str) -> None:
    name = value.name
    value.type.tensor_type.elem_type = _INT32
    maker = bodies[0].makers.get(name)
    if maker is not None and maker.op_type == "Cast" and not any(_readers(bodies, name)):
        maker.attribute[0].i = _INT32
        return
    _refuse_inside(dtype, "output", name, signature)
    wide = f"{name}/{dtype}"
    _rename_reads(bodies, name, wide)
    for node in bodies[0].graph.node:
        for place, made in enumerate(node.output):
            if made == name:
                node.output[place] = wide
    for tensor in bodies[0].graph.initializer:
        if tensor.name == name:
            tensor.name = wide
    bodies[0].graph.node.append(_cast(wide, name, _INT32))


def _refuse_inside(dtype: str, side: str, name: str, signature: str) -> None:
    if dtype in _SMALL:
        raise Unsupported(f"signature {signature}: {side} '{name}' is {dtype}, which TensorRT has only for "
                          "quantized numbers, and the model does more with it than cast it; make it int32")


def _rename_reads(bodies: list[Body], name: str, to: str) -> None:
    for body in bodies:
        for node in body.graph.node:
            for place, source in enumerate(node.input):
                if source == name:
                    node.input[place] = to
    for body in bodies[1:]:
        for output in body.graph.output:
            if output.name == name:
                output.name = to


def _cast(source: str, result: str, code: int) -> onnx.NodeProto:
    import onnx

    return onnx.helper.make_node("Cast", [source], [result], name=f"{result}/cast", to=code)
