"""Look at what ONNX Runtime really runs: the kernels of the graph that a session makes of a model."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from trt_pipeline.conversion.onnx_precision.bodies import Body, bodies_of
from trt_pipeline.errors import Unsupported, one_line
from trt_pipeline.frozen import Frozen

if TYPE_CHECKING:
    import onnx

_INT8_KERNELS = frozenset({"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger",
                           "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention"})
_FLOAT_KERNELS = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul",
                            "FusedMatMul", "Attention", "MultiHeadAttention"})
_TYPES = {"fp32": 1, "fp16": 10, "bf16": 16}
# What ONNX Runtime appends to the name of a node that it makes of another.
_TOKEN = re.compile(r"_token_\d+$")


class Kernels(Frozen):
    """The weighted operations of a session: by name, and by the tensor that each makes.

    Both, for ONNX Runtime's fusions keep now the one, now the other. Those of a body begin with
    ``OWNER.ATTRIBUTE/``.
    """

    counts: tuple[int, int]
    """How many compute in the precision that was asked for, of how many."""
    low: frozenset[str]
    """Those that compute in it."""
    other: frozenset[str]


def really(model: Path, precision: str) -> Kernels:
    """What ONNX Runtime's CPU session runs of ``model``, bodies included.

    Raises:
        Unsupported: ONNX Runtime does not load it.
    """
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix=".proof-", dir=model.parent) as scratch:
        written = Path(scratch) / "optimized.onnx"
        options.optimized_model_filepath = str(written)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.data")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise Unsupported(f"ONNX Runtime does not load it: {one_line(error)}") from error
        optimized = onnx.load(str(written), load_external_data=False)
    labels: dict[bool, set[str]] = {True: set(), False: set()}
    counts = {True: 0, False: 0}
    for body in bodies_of(optimized):
        for node in body.graph.node:
            if node.op_type in _INT8_KERNELS:
                low = precision == "int8"
            elif node.op_type in _FLOAT_KERNELS and _reads_weight(body, node):
                low = _weight_type(body, node) == _TYPES.get(precision)
            else:
                continue
            counts[low] += 1
            labels[low] |= {f"{body.path}{label}" for label in (_TOKEN.sub("", node.name), node.output[0])}
    return Kernels(counts=(counts[True], counts[True] + counts[False]), low=frozenset(labels[True]),
                   other=frozenset(labels[False]))


def _reads_weight(body: Body, node: onnx.NodeProto) -> bool:
    return len(node.input) > 1 and _source(body, node.input[1]) is not None


def _weight_type(body: Body, node: onnx.NodeProto) -> int:
    """The type that the kernel computes in, which is its weight's."""
    found = _source(body, node.input[1])
    assert found is not None
    return found


def _source(body: Body, tensor: str) -> int | None:
    """The float type of a weight, cast or dequantized on its way as it may be; None where it is computed."""
    kind: int | None = None
    for _ in range(8):
        constant = body.constant(tensor)
        if constant is not None:
            return kind or int(constant.data_type)
        home = body.home(tensor)
        maker = home.makers.get(tensor) if home is not None else None
        if maker is None:
            return None
        if maker.op_type == "DequantizeLinear":
            kind = kind or 1
        elif maker.op_type == "Cast":
            kind = kind or int(maker.attribute[0].i)
        elif maker.op_type not in ("Transpose", "Reshape", "ReorderInput", "Identity", "Unsqueeze", "Squeeze"):
            return None
        tensor = maker.input[0]
    return None


