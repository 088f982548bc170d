"""Which flags make a precision, and which recipes a version cannot follow."""

from __future__ import annotations

import pytest

from trt_pipeline.engine import flags
from trt_pipeline.engine.flags import OBEY, PREFER, Flags
from trt_pipeline.engine.options import Options
from trt_pipeline.engine.recipe import Recipe
from trt_pipeline.errors import Unsupported


def _recipe(precision: str, version: str = "8.5", typed: bool = False, **more: object) -> Recipe:
    return Recipe.model_validate({"precision": precision, "tensorrt": version, "typed": typed, **more})


@pytest.mark.parametrize(("precision", "version", "typed", "network", "on", "off"), [
    ("fp32", "8.5.3.1", False, ("EXPLICIT_BATCH",), (), ("TF32",)),
    ("tf32", "8.5.3.1", False, ("EXPLICIT_BATCH",), ("TF32",), ()),
    ("fp16", "8.6.1", False, ("EXPLICIT_BATCH",), ("FP16",), ("TF32",)),
    ("int8", "8.5.3.1", False, ("EXPLICIT_BATCH",), ("INT8",), ("TF32",)),
    ("bf16", "10.0.1", False, (), ("BF16",), ("TF32",)),
    ("fp32", "10.13.0", True, ("STRONGLY_TYPED",), (), ("TF32",)),
    ("fp16", "10.12.0", True, ("STRONGLY_TYPED",), (), ("TF32",)),
    ("int8", "11.4.0.106", True, ("STRONGLY_TYPED",), (), ("TF32",)),
    ("tf32", "11.4.0.106", True, ("STRONGLY_TYPED",), ("TF32",), ()),
])
def test_each_precision_has_its_flags(precision: str, version: str, typed: bool, network: tuple[str, ...],
                                      on: tuple[str, ...], off: tuple[str, ...]) -> None:
    assert flags.of(_recipe(precision, version, typed), version, Options()) == Flags(network=network, on=on, off=off)


def test_layers_in_float32_are_obeyed_and_only_then_may_yield() -> None:
    asked = flags.of(_recipe("fp16", fp32_layers=("softmax",)), "8.5.3.1", Options())
    assert asked.on == ("FP16", OBEY)
    assert flags.yielding(asked).on == ("FP16", PREFER)
    assert flags.of(_recipe("fp32", fp32_layers=("softmax",)), "8.5.3.1", Options()).on == ()


def test_compatible_engines_are_asked_for_where_there_are_any() -> None:
    options = Options(hardware_compatible=True, version_compatible=True)
    asked = flags.of(_recipe("fp32"), "8.6.1", options)
    assert (asked.hardware_compatibility, asked.on, asked.portable) == ("AMPERE_PLUS", ("VERSION_COMPATIBLE",), True)
    with pytest.raises(Unsupported, match=r"^TensorRT 8\.5\.3\.1 has no hardware_compatible: use 8\.6 or later"):
        flags.of(_recipe("fp32"), "8.5.3.1", options)


@pytest.mark.parametrize(("recipe", "version", "says"), [
    (_recipe("fp16", "8.5"), "11.4.0.106",
     "converted for TensorRT 8.5, whose precision is in builder flags, and this is 11.4.0.106, where it is in types in "
     "the graph: convert again with backends.tensorrt.options.tensorrt: '11.4'"),
    (_recipe("fp16", "11.4", typed=True), "8.5.3.1",
     "converted for TensorRT 11.4, whose precision is in types in the graph, and this is 8.5.3.1, where it is in "
     "builder flags: convert again with backends.tensorrt.options.tensorrt: '8.5'"),
    (_recipe("bf16", "10.0"), "8.6.1", "TensorRT 8.6.1 has no bf16: use 9.0 or later, or fp16"),
])
def test_what_a_version_cannot_follow_is_refused_naming_both(recipe: Recipe, version: str, says: str) -> None:
    with pytest.raises(Unsupported) as refused:
        flags.of(recipe, version, Options())
    assert str(refused.value) == says


@pytest.mark.parametrize(("precision", "compatible", "says"), [
    ("tf32", False, "tf32 needs a GPU of compute capability 8.0 or later, and Tesla T4 has 7.5"),
    ("bf16", False, "bf16 needs a GPU of compute capability 8.0 or later, and Tesla T4 has 7.5"),
    ("fp16", True, "hardware_compatible needs a GPU of compute capability 8.0 or later, and Tesla T4 has 7.5"),
])
def test_what_a_gpu_has_not_is_refused(precision: str, compatible: bool, says: str) -> None:
    options = Options(hardware_compatible=compatible)
    flags.check_gpu(_recipe(precision), options, "NVIDIA A10", "8.6")
    flags.check_gpu(_recipe("int8"), Options(), "Tesla T4", "7.5")
    with pytest.raises(Unsupported) as refused:
        flags.check_gpu(_recipe(precision), options, "Tesla T4", "7.5")
    assert str(refused.value) == says


def test_what_asks_in_the_same_way_may_be_built_by_another_version() -> None:
    assert flags.of(_recipe("fp16", "8.5"), "10.3.0", Options()).on == ("FP16",)
