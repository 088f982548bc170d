"""Decide what of an ONNX model becomes int8: which operations, and which tensors are said in 8 bits for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.onnx_precision.affine import Affine, Style, activation
from trt_pipeline.conversion.onnx_precision.bodies import Body, array
from trt_pipeline.conversion.onnx_precision.names import MOVING, Names

if TYPE_CHECKING:
    import onnx

# These only choose among the values of their input, so input and output share a scale and the kernels
# work on the integers themselves.
_SHARING = MOVING | {"MaxPool", "Resize", "Slice", "Split"}
# Kernels of ONNX Runtime with int8 in and out. Softmax and Sigmoid are left out: their results are
# what clients read, and 256 levels of probability are too few.
_JOINING = frozenset({"Add", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu"})
_CLAMPS = frozenset({"Relu", "Clip"})
# Beyond a bound by less than this share, a clamp still does what the 8 bits do.
_SLACK = 1e-5


@dataclass
class Point:
    """A tensor that is said in 8 bits.

    ``everyone``: its maker is an int8 operation, so whoever reads it reads the 8 bits; else only
    ``readers`` do, (body, node, input number) each.
    ``clamp``: a Relu or Clip between the maker and the tensor that the 8 bits make needless.
    """

    body: Body
    tensor: str
    affine: Affine
    everyone: bool = False
    readers: list[tuple[Body, onnx.NodeProto, int]] = field(default_factory=list)
    clamp: onnx.NodeProto | None = None


@dataclass
class Placement:
    """What was decided: ``weighted`` operations and their names, ``points``, and what stays as it is and why."""

    weighted: list[tuple[Body, onnx.NodeProto, str]] = field(default_factory=list)
    points: dict[tuple[int, str], Point] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def point(self, body: Body, tensor: str) -> Point | None:
        """The point of a tensor that ``body`` reads."""
        home = body.home(tensor)
        return self.points.get((id(home), tensor)) if home is not None else None


def place(names: Names, ranges: SignatureRanges, raised: frozenset[str], style: Style) -> Placement:
    """Decide for a whole model."""
    found = Placement()
    for body in names.bodies:
        (_PlaceForCpu if style == "cpu" else _PlaceForTensorRT)(names, ranges, raised, found, body).run()
    return found


class _Place:
    """What both styles share: weighted operations of one body."""

    style: Style

    def __init__(self, names: Names, ranges: SignatureRanges, raised: frozenset[str], found: Placement,
                 body: Body) -> None:
        self.names, self.ranges, self.raised, self.found, self.body = names, ranges, raised, found, body

    def affine(self, tensor: str) -> Affine | None:
        """How ``tensor`` is said; None where nothing is known of it."""
        known = self.found.point(self.body, tensor)
        if known is not None:
            return known.affine
        measured = self.names.range(self.body, tensor, self.ranges)
        return activation(measured, self.style) if measured is not None else None

    def obstacle(self, node: onnx.NodeProto, name: str) -> str:
        """Why a weighted operation cannot become int8; empty where it can."""
        if name in self.raised:
            return "raised"
        weight = self.body.constant(node.input[1])
        if weight is None or weight.data_type != weight.FLOAT:
            return "its weight is not float32"
        if self.affine(node.input[0]) is None:
            return self.unknown(node.input[0])
        return _unfit(self.body, node)

    def unknown(self, tensor: str) -> str:
        """The reason that a tensor without a range gives."""
        return f"no range is known of {self.names.tensor(self.body, tensor) or tensor}"

    def read(self, node: onnx.NodeProto, number: int) -> None:
        """Let ``node`` read its input ``number`` in 8 bits."""
        tensor = node.input[number]
        point = self.found.point(self.body, tensor)
        if point is None:
            home, affine = self.body.home(tensor), self.affine(tensor)
            assert home is not None
            assert affine is not None
            point = self.found.points[id(home), tensor] = Point(home, tensor, affine)
        point.readers.append((self.body, node, number))


class _PlaceForCpu(_Place):
    """Whole chains in U8 around convolutions, as ONNX Runtime's fused kernels want them.

    Its QLinearConv needs 8 bits in and out; a product with a weight gives float out for free, so what
    follows one (norms, attention, the model's outputs) stays float.
    """

    style: Style = "cpu"

    def run(self) -> None:
        self._joined: set[int] = set()
        nodes = list(self.body.graph.node)
        for node in nodes:
            if self.body.weighted(node):
                self._weighted(node)
            elif node.op_type in _JOINING | _SHARING and not node.domain:
                self._join(node)
        for node in reversed(nodes):
            if node.op_type in _SHARING and id(node) not in self._joined and not node.domain:
                self._lead(node)

    def _weighted(self, node: onnx.NodeProto) -> None:
        name = self.names.node(self.body, node)
        why = self.obstacle(node, name)
        if not why and node.op_type == "ConvTranspose":
            why = "ONNX Runtime has no int8 kernel for it on the CPU"
        if not why and node.op_type == "Conv" and self._made(node) is None:
            why = self.unknown(node.output[0])
        if why:
            self.found.kept[name] = why
            return
        self.read(node, 0)
        self.found.weighted.append((self.body, node, name))
        if node.op_type == "Conv":
            self._make(node)

    def _join(self, node: onnx.NodeProto) -> None:
        """Take ``node`` in if an operation before it makes 8 bits, and its other inputs can be said in them."""
        count = len(node.input) if node.op_type in ("Add", "Concat") else 1
        points = [self.found.point(self.body, name) for name in node.input[:count]]
        if (not any(point is not None and point.everyone for point in points)
                or self.names.node(self.body, node) in self.raised
                or any(self.body.constant(name) is not None or self.affine(name) is None
                       for name in node.input[:count])):
            return
        if node.op_type in _SHARING:
            before = points[0]
            assert before is not None
            if any(output in self.body.outputs for output in node.output):
                return  # it reads 8 bits and makes the float that is returned
            for output in node.output:
                self._add(output, before.affine, None)
        elif self._made(node) is not None:
            self._make(node)
        else:
            return
        self._joined.add(id(node))
        for number in range(count):
            self.read(node, number)

    def _lead(self, node: onnx.NodeProto) -> None:
        """Say the values in 8 bits before an operation that moves them, where all its readers take 8 bits."""
        output = node.output[0]
        point = self.found.points.get((id(self.body), output))
        home = self.body.home(node.input[0])
        if (point is None or point.everyone or len(node.output) > 1 or output in self.body.outputs
                or output in self.body.read_inside or home is not self.body
                or {id(reader) for _, reader, _ in point.readers} != {id(r) for r in self.body.readers[output]}
                or self.body.constant(node.input[0]) is not None):
            return
        before = self.found.point(self.body, node.input[0])
        if before is None:
            before = self.found.points[id(home), node.input[0]] = Point(self.body, node.input[0], point.affine)
        before.readers.append((self.body, node, 0))
        point.affine, point.everyone = before.affine, True
        self._joined.add(id(node))

    def _made(self, node: onnx.NodeProto) -> tuple[str, Affine, onnx.NodeProto | None] | None:
        """The tensor that ``node`` makes in 8 bits, after a clamp that they make needless."""
        output = node.output[0]
        after = self.body.only_reader(output)
        if after is not None and after.op_type in _CLAMPS and after.input[0] == output:
            clamped = self.affine(after.output[0])
            if clamped is not None and _holds(self.body, after, clamped):
                return after.output[0], clamped, after
        affine = self.affine(output)
        return (output, affine, None) if affine is not None else None

    def _make(self, node: onnx.NodeProto) -> None:
        made = self._made(node)
        assert made is not None
        self._add(*made)

    def _add(self, tensor: str, affine: Affine, clamp: onnx.NodeProto | None) -> None:
        self.found.points[id(self.body), tensor] = Point(self.body, tensor, affine, everyone=True, clamp=clamp)


class _PlaceForTensorRT(_Place):
    """Symmetric S8 before the inputs of weighted operations, and before the other input of a residual sum.

    TensorRT fuses convolution, sum and ReLU into one int8 kernel only where the sum's other input is
    quantized too. It moves Q/DQ over pooling and transposes by itself.
    """

    style: Style = "tensorrt"

    def run(self) -> None:
        convolutions: dict[str, onnx.NodeProto] = {}
        for node in self.body.graph.node:
            if not self.body.weighted(node):
                continue
            name = self.names.node(self.body, node)
            if why := self.obstacle(node, name):
                self.found.kept[name] = why
                continue
            self.read(node, 0)
            self.found.weighted.append((self.body, node, name))
            if node.op_type == "Conv" and self.body.only_reader(node.output[0]) is not None:
                convolutions[node.output[0]] = node
        for node in self.body.graph.node:
            other = _residual(node, convolutions) if node.op_type == "Add" else None
            if (other is not None and self.body.constant(node.input[other]) is None
                    and self.affine(node.input[other]) is not None):
                self.read(node, other)


def _residual(node: onnx.NodeProto, convolutions: dict[str, onnx.NodeProto]) -> int | None:
    """Which input of a sum is not the one that fuses with the convolution that makes it."""
    if node.input[0] == node.input[1]:
        return None
    for number in (0, 1):
        if node.input[number] in convolutions:
            return 1 - number
    return None


def _holds(body: Body, clamp: onnx.NodeProto, affine: Affine) -> bool:
    """Whether 8 bits of ``affine`` cannot say anything that ``clamp`` would cut off."""
    low, high = affine.bounds
    bottom, top = 0.0, float("inf")
    if clamp.op_type == "Clip":
        limits = [-float("inf"), float("inf")]
        for number, name in enumerate(clamp.input[1:3]):
            constant = body.constant(name) if name else None
            if constant is None and name:
                return False
            if constant is not None:
                limits[number] = float(array(constant))
        bottom, top = limits
    slack = _SLACK * (high - low)
    return bottom - slack <= low and high <= top + slack


def _unfit(body: Body, node: onnx.NodeProto) -> str:
    """What of a weighted operation's own form keeps it from int8; empty where nothing does."""
    import onnx

    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Gemm" and (given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0):
        return "it scales its product"
    if len(node.input) > 2 and node.input[2]:
        bias = body.constant(node.input[2])
        if bias is None or len(bias.dims) != 1:
            return "its bias is no constant vector"
    return ""
