"""Models of one node, published as an ONNX candidate of the pipeline is; quick to make, load and tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trt_pipeline.backends.base import Artifact
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.publish import triton

WIDTH, WORDS = 4, 10


def _of(name: str, inputs: dict[str, tuple[str, tuple[int | None, ...]]],
        outputs: dict[str, tuple[str, tuple[int | None, ...]]]) -> SignatureContract:
    def tensors(of: dict[str, tuple[str, tuple[int | None, ...]]]) -> dict[str, TensorContract]:
        return {key: TensorContract(dtype=dtype, shape=shape) for key, (dtype, shape) in of.items()}

    return SignatureContract(name=name, method_name="", inputs=tensors(inputs), outputs=tensors(outputs))


SCALE = _of("serving_default", {"x": ("float32", (None, WIDTH))}, {"y": ("float32", (None, WIDTH))})
EMBED = _of("serving_default", {"ids": ("int64", (None, None))}, {"rows": ("float32", (None, None, WIDTH))})
ECHO = _of("serving_default", {"text": ("string", (None,))}, {"again": ("string", (None,))})


def scale(factor: float) -> onnx.ModelProto:
    """``y`` is ``x`` times ``factor``."""
    return _model(SCALE, [helper.make_node("Mul", ["x", "factor"], ["y"])],
                  [numpy_helper.from_array(np.float32(factor), "factor")])


def embed() -> onnx.ModelProto:
    """``rows`` of a table of `WORDS` words: ids beyond it are an error of the model."""
    table = np.arange(WORDS * WIDTH, dtype=np.float32).reshape(WORDS, WIDTH)
    return _model(EMBED, [helper.make_node("Gather", ["table", "ids"], ["rows"])],
                  [numpy_helper.from_array(table, "table")])


def echo() -> onnx.ModelProto:
    """``again`` is ``text``."""
    return _model(ECHO, [helper.make_node("Identity", ["text"], ["again"])], [])


def publish(model: onnx.ModelProto | bytes, contract: SignatureContract, serving: Path, name: str, *,
            requests: Sequence[Mapping[str, Any]] = (), largest: int = 8) -> int:
    """Publish the next version of ``name``; returns its number."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    source = serving.parent / "made" / name
    source.mkdir(parents=True, exist_ok=True)
    (source / "model.onnx").write_bytes(content)
    version, new = triton.publish(
        Artifact(kind="onnx", files={contract.name: "model.onnx"}), source, {contract.name: contract},
        serving / "triton", name, largest, {"digest": str(hash(content))}, None, again=True,
        requests={contract.name: requests})
    assert new
    return version


def _model(contract: SignatureContract, nodes: list[onnx.NodeProto],
           constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    def values(tensors: dict[str, TensorContract]) -> list[onnx.ValueInfoProto]:
        types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "string": TensorProto.STRING}
        return [helper.make_tensor_value_info(name, types[tensor.dtype], list(tensor.shape or ()))
                for name, tensor in tensors.items()]

    graph = helper.make_graph(nodes, "tiny", values(contract.inputs), values(contract.outputs), constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(made)
    return made
