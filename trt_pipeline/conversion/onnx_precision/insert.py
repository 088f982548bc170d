"""Write Q/DQ pairs and 8-bit weights into an ONNX model, where `placement` put them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trt_pipeline.conversion.onnx_precision import affine as affine_numbers
from trt_pipeline.conversion.onnx_precision.affine import Affine, Style
from trt_pipeline.conversion.onnx_precision.bodies import Body, array, reads, sort
from trt_pipeline.conversion.onnx_precision.placement import Placement, Point

if TYPE_CHECKING:
    import onnx


class Writer:
    """Changes a model in place; call `write` once."""

    def __init__(self, bodies: list[Body], placement: Placement, style: Style, folder: str) -> None:
        self.bodies, self.placement, self.style, self.folder = bodies, placement, style, folder
        self._written: dict[tuple[Any, ...], str] = {}
        self._scales: dict[str, npt.NDArray[Any]] = {}
        self._removed: set[int] = set()

    def write(self) -> None:
        """Insert everything."""
        for body in self.bodies:  # the tables, as the model was
            _ = body.makers, body.readers, body.constants, body.read_inside, body.outputs, body.inputs
        for body, node, _name in self.placement.weighted:
            self._quantize_weight(body, node)
        for point in self.placement.points.values():
            self._quantize(point)
        for body in self.bodies:
            for place in reversed(range(len(body.graph.node))):
                if id(body.graph.node[place]) in self._removed:
                    del body.graph.node[place]

    def _quantize(self, point: Point) -> None:
        body, tensor = point.body, point.tensor
        scale, zero = self._parameters(body, point.affine)
        quantized = f"{tensor}/quantized"
        if point.everyone:
            raw = f"{tensor}/float"
            maker = body.makers[tensor]
            if point.clamp is not None:
                raw = point.clamp.input[0]
                self._removed.add(id(point.clamp))
            else:
                maker.output[list(maker.output).index(tensor)] = raw
            _add(body, "QuantizeLinear", [raw, scale, zero], quantized)
            _add(body, "DequantizeLinear", [quantized, scale, zero], tensor)
            return
        _add(body, "QuantizeLinear", [tensor, scale, zero], quantized)
        for reader, node, number in point.readers:
            node.input[number] = self._dequantized(reader, quantized, scale, zero)

    def _dequantized(self, body: Body, quantized: str, scale: str, zero: str) -> str:
        key = (id(body), quantized)
        if key not in self._written:
            name = f"{quantized.removesuffix('/quantized')}/dequantized"
            if body.parent is not None:
                name += f"/in_{self.bodies.index(body)}"
            _add(body, "DequantizeLinear", [quantized, scale, zero], name)
            self._written[key] = name
        return self._written[key]

    def _parameters(self, body: Body, affine: Affine) -> tuple[str, str]:
        """Names of the scale and the zero point; equal ones are one, in the outermost graph that may read them."""
        stem = f"quantization_{self.bodies.index(body)}_{len(self._written)}"
        scale = self._constant(body, f"{stem}/scale", np.float32(affine.scale), (affine, "scale"))
        zero = self._constant(body, f"{stem}/zero", affine.kind(affine.zero_point), (affine, "zero"))
        return scale, zero

    def _constant(self, body: Body, name: str, value: npt.ArrayLike, key: tuple[Any, ...]) -> str:
        from onnx import numpy_helper

        place = (id(body), *key)
        if place not in self._written:
            body.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
            self._written[place] = name
        return self._written[place]

    def _quantize_weight(self, body: Body, node: onnx.NodeProto) -> None:
        axis = channel_axis(body, node)
        point = self.placement.point(body, node.input[0])
        assert point is not None
        least = None
        if self.style == "cpu" and len(node.input) > 2 and node.input[2]:
            least = affine_numbers.smallest_weight_scale(self._value(body, node.input[2]), point.affine.scale)
            if axis is None or least.size != self._dims(body, node.input[1])[axis]:
                least = least.max()
        name = node.input[1]
        integers, scale = self._weight(body, name, axis, least)
        dequantized = f"{integers}/dequantized_{self.bodies.index(body)}"
        if (id(body), dequantized) not in self._written:
            inputs = [integers, scale, self._zeros(body, scale, np.int8)]
            _add(body, "DequantizeLinear", inputs, dequantized, axis)
            self._written[id(body), dequantized] = dequantized
        node.input[1] = dequantized
        if self.style == "cpu" and len(node.input) > 2 and node.input[2]:
            self._quantize_bias(body, node, point.affine, scale)

    def _quantize_bias(self, body: Body, node: onnx.NodeProto, affine: Affine, weight_scale: str) -> None:
        value = self._value(body, node.input[2])
        scale = np.asarray(np.float32(affine.scale) * self._scales[weight_scale])
        value = np.broadcast_to(value, scale.shape) if scale.ndim else value
        stem = f"{node.input[2]}/{node.name or node.output[0]}"
        integers = self._constant(body, f"{stem}/quantized", affine_numbers.bias(value, scale), (stem, "bias"))
        scales = self._constant(body, f"{stem}/scale", scale, (stem, "bias scale"))
        self._scales[scales] = scale
        name = f"{stem}/dequantized"
        _add(body, "DequantizeLinear", [integers, scales, self._zeros(body, scales, np.int32)], name,
             0 if scale.ndim else None)
        node.input[2] = name

    def _weight(self, body: Body, name: str, axis: int | None,
                least: npt.NDArray[Any] | None) -> tuple[str, str]:
        """Names of a weight's integers and of their scale, beside the weight itself."""
        home = body.home(name)
        assert home is not None
        key = (id(home), name, axis, None if least is None else least.tobytes())
        if key not in self._written:
            value = self._value(body, name)
            integers, scale = affine_numbers.weight(value, axis, affine_numbers.largest_weight(self.style), least)
            stem = f"{name}/weight_{len(self._written)}"
            self._written[key] = self._constant(home, stem, integers, (stem,))
            self._scales[f"{stem}/scale"] = scale
            self._constant(home, f"{stem}/scale", scale, (stem, "scale"))
        stem = self._written[key]
        return stem, f"{stem}/scale"

    def _zeros(self, body: Body, scale: str, kind: type[np.signedinteger[Any]]) -> str:
        value = np.zeros(self._scales[scale].shape, kind)
        return self._constant(body, f"{scale}/zero_{self.bodies.index(body)}", value, (scale, "zero"))

    def _dims(self, body: Body, name: str) -> list[int]:
        constant = body.constant(name)
        assert constant is not None
        return list(constant.dims)

    def _value(self, body: Body, name: str) -> npt.NDArray[Any]:
        constant = body.constant(name)
        assert constant is not None
        return array(constant, self.folder)


def tidy(model: onnx.ModelProto) -> None:
    """Sort the nodes of every graph and drop the constants that nothing reads any more."""
    pending = [model.graph]
    for graph in pending:  # grows while it is walked
        sort(graph)
        read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
        for tensor in [t for t in graph.initializer if t.name not in read]:
            graph.initializer.remove(tensor)
        for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] not in read]:
            graph.node.remove(node)
        pending += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
        pending += [body for node in graph.node for a in node.attribute for body in a.graphs]


def channel_axis(body: Body, node: onnx.NodeProto) -> int | None:
    """The axis of a weight that has a scale of its own per index; None where one scale has to do."""
    constant = body.constant(node.input[1])
    assert constant is not None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    if node.op_type == "ConvTranspose":
        return None if any(a.name == "group" and a.i > 1 for a in node.attribute) else 1
    return 1 if len(constant.dims) == 2 else None


def _add(body: Body, kind: str, inputs: list[str], output: str, axis: int | None = None) -> None:
    node = body.graph.node.add(op_type=kind, name=output, input=inputs, output=[output])
    if axis is not None:
        node.attribute.add(name="axis", type=2, i=axis)
