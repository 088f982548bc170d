"""What is in an engine, from what TensorRT's inspector writes, and whether it is what was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.engine import inspect
from trt_pipeline.engine.inspect import Layers
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.errors import PipelineError

FP32, FP16, INT8 = "Row major linear FP32", "Channel major FP16 format where channel % 8 == 0", "Row major Int8 format"
NHWC8 = "Thirty-two wide channel vectorized row major Int8 format"


def _row(name: str, kind: str, given: str, made: str, **more: Any) -> dict[str, Any]:
    """In the form that 8.5 and 10 have of `trtexec --exportLayerInfo`."""
    edges = {side: [{"Name": f"{name}/{side}", "Location": "Device", "Dimensions": [1, 3], "Format/Datatype": text}]
             for side, text in (("Inputs", given), ("Outputs", made))}
    return {"Name": name, "LayerType": kind, **edges, "TacticValue": "0x00000000000003e8", **more}


RESNET = [
    _row("Reformatting CopyNode for Input Tensor 0 to conv0", "Reformat", FP32, INT8, ParameterType="Reformat"),
    _row("conv0 + relu0 + pool0", "CaskConvActPool", INT8, NHWC8, Weights={"Type": "Int8", "Count": 9408}),
    _row("conv1 + relu1", "CaskConvolution", NHWC8, FP16, Weights={"Type": "Int8", "Count": 4096}),
    _row("/model.2/cv1/conv/Conv", "CaskConvolution", FP16, FP16, Weights={"Type": "Half", "Count": 1250}),
    _row("fc", "CaskGemmMatrixMultiply", FP32, FP32, TacticName="sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize32x32"),
    _row("fc2", "CaskGemmMatrixMultiply", FP32, FP32, TacticName="sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n"),
]
# As 10 names its types and layers.
LATER = [_row("__myl_CastMul", "kgen", "Half", "BFloat16"), _row("gemm_1", "gemm", "Half", "Half"),
         _row("norm", "kgen", "Float", "Float"), _row("wait", "Wait", "Half", "Half")]


def _layers(rows: list[Any]) -> Layers:
    return inspect.parse(json.dumps({"Layers": rows, "Bindings": ["input", "output"]}))


def _recipe(precision: str) -> Recipe:
    return Recipe(precision=precision, tensorrt="8.5", typed=False)


def test_layers_are_counted_by_what_they_compute_in() -> None:
    found = _layers(RESNET)
    assert found.counts == {"int8": 2, "fp16": 1, "fp32": 1, "tf32": 1}
    assert found.layers[0].precision == ""  # a reformat computes nothing
    assert found.bindings == ("input", "output")
    assert _layers(LATER).counts == {"bf16": 1, "fp16": 1, "fp32": 1}


def test_the_precision_asked_for_must_be_in_it() -> None:
    for precision in ("int8", "fp16", "tf32"):
        inspect.check(_layers(RESNET), _recipe(precision))
    with pytest.raises(PipelineError, match=r"asked for in bf16, and none of its 6 layers is in it \(2 in int8"):
        inspect.check(_layers(RESNET), _recipe("bf16"))


def test_fp32_has_no_tf32_in_it() -> None:
    inspect.check(_layers(RESNET[4:5]), _recipe("fp32"))
    with pytest.raises(PipelineError, match="asked for in fp32, and 1 of its layers compute in TF32"):
        inspect.check(_layers(RESNET[4:]), _recipe("fp32"))


def test_what_was_compiled_as_a_whole_may_have_it_out_of_sight() -> None:
    whole = _layers([_row("{ForeignNode[encoder/x...encoder/y]}", "Myelin", FP32, FP32)])
    assert (whole.whole, whole.counts) == (1, {"fp32": 1})
    inspect.check(whole, _recipe("fp16"))


def test_an_engine_without_detail_tells_names_only(tmp_path: Path) -> None:
    found = _layers(["Conv__25 + Relu", "MaxPool2d"])
    assert (found.counts, found.layers[0].name) == ({}, "Conv__25 + Relu")
    inspect.check(found, _recipe("fp16"))
    inspect.write(_layers(RESNET), tmp_path)
    assert json.loads((tmp_path / "layers.json").read_text())["counts"] == {"int8": 2, "fp16": 1, "fp32": 1, "tf32": 1}


def test_another_format_is_an_error_and_no_empty_engine() -> None:
    with pytest.raises(RuntimeError, match="what is not known here"):
        inspect.parse("{}")
