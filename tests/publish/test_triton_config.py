"""Configurations that Triton's own message reads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.publish.signatures import IMAGE, signature, tensor
from trt_pipeline.backends.base import ArtifactKind
from trt_pipeline.errors import PipelineError
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.publish.triton_config import config_text
from trt_pipeline.samples.profiles import Extent, Profile


def parsed(contract: SignatureContract, kind: ArtifactKind = "onnx", max_batch_size: int = 32,
           profiles: tuple[Profile, ...] = ()) -> Any:
    """The configuration as Triton's own message."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse(config_text("demo", kind, contract, max_batch_size, profiles), messages.ModelConfig())


def dims(side: Any) -> dict[str, list[int]]:
    return {t.name: list(t.dims) for t in side}


@pytest.mark.parametrize(("kind", "platform"), [("onnx", "onnxruntime_onnx"), ("savedmodel", "tensorflow_savedmodel")])
def test_a_free_batch_is_left_to_triton(kind: ArtifactKind, platform: str) -> None:
    config = parsed(IMAGE, kind)
    assert (config.name, config.platform, config.max_batch_size) == ("demo", platform, 32)
    assert (dims(config.input), dims(config.output)) == ({"image": [8, 8, 1]}, {"logits": [10]})
    assert config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 1


def test_a_savedmodel_names_its_signature() -> None:
    config = parsed(IMAGE.model_copy(update={"name": "classify"}), "savedmodel")
    assert config.parameters["TF_SIGNATURE_DEF"].string_value == "classify"
    assert not parsed(IMAGE).parameters


def test_free_axes_are_minus_one() -> None:
    config = parsed(signature({"ids": tensor("int64", None, None)}, {"y": tensor("float32", None, 4, None)}))
    assert (dims(config.input), dims(config.output)) == ({"ids": [-1]}, {"y": [4, -1]})


def test_a_fixed_batch_is_a_dimension_and_is_not_batched() -> None:
    config = parsed(signature({"x": tensor("float32", 4, 8)}, {"y": tensor("float32", 4)}))
    assert config.max_batch_size == 0
    assert (dims(config.input), dims(config.output)) == ({"x": [4, 8]}, {"y": [4]})
    assert not config.HasField("dynamic_batching")


def test_one_output_without_a_batch_axis_keeps_all_from_being_batched() -> None:
    config = parsed(signature({"x": tensor("float32", None, 8)},
                              {"y": tensor("float32", None, 8), "table": tensor("float32", 3, 2)}))
    assert config.max_batch_size == 0
    assert dims(config.input) == {"x": [-1, 8]}
    assert dims(config.output) == {"y": [-1, 8], "table": [3, 2]}


def test_one_value_a_row_is_a_dimension_of_1_that_is_reshaped_away() -> None:
    config = parsed(signature({"names": tensor("string", None)}, {"score": tensor("float32", None)}))
    assert (dims(config.input), dims(config.output)) == ({"names": [1]}, {"score": [1]})
    assert all(t.HasField("reshape") and list(t.reshape.shape) == [] for t in (*config.input, *config.output))
    assert not parsed(IMAGE).input[0].HasField("reshape")


def test_a_scalar_of_a_model_that_is_not_batched_has_no_empty_reshape() -> None:
    """Triton: 'cannot have empty reshape for non-batching model as scalar tensors are not supported'."""
    config = parsed(signature({"x": tensor("float32", None, 8)}, {"loss": tensor("float32")}))
    assert config.max_batch_size == 0
    assert not config.output[0].HasField("reshape")


@pytest.mark.parametrize(("dtype", "data_type"), [
    ("float32", "TYPE_FP32"), ("float64", "TYPE_FP64"), ("float16", "TYPE_FP16"), ("bfloat16", "TYPE_BF16"),
    ("int8", "TYPE_INT8"), ("int16", "TYPE_INT16"), ("int32", "TYPE_INT32"), ("int64", "TYPE_INT64"),
    ("uint8", "TYPE_UINT8"), ("uint16", "TYPE_UINT16"), ("uint32", "TYPE_UINT32"), ("uint64", "TYPE_UINT64"),
    ("bool", "TYPE_BOOL"), ("string", "TYPE_STRING")])
def test_data_types(dtype: str, data_type: str) -> None:
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    config = parsed(signature({"x": tensor(dtype, None, 2)}, {}))
    assert config.input[0].data_type == messages.DataType.Value(data_type)


def test_a_dtype_that_triton_lacks_is_refused_in_a_line() -> None:
    with pytest.raises(PipelineError, match="complex64"):
        config_text("demo", "savedmodel", signature({"x": tensor("complex64", None, 2)}, {}), 8)


def test_an_unknown_rank_is_not_told_as_a_single_value() -> None:
    unknown = signature({"x": TensorContract(dtype="float32", shape=None)}, {})
    try:
        config = parsed(unknown)
    except PipelineError:
        return
    assert dims(config.input) != {"x": [1]}


@pytest.mark.parametrize("name", ['say "hi"', "ünï", "dense_1/Softmax:0"])
def test_any_name_is_written_so_that_it_is_read_again(name: str) -> None:
    assert dims(parsed(signature({name: tensor("int32", None, 2)}, {})).input) == {name: [2]}


@pytest.mark.parametrize("kind", ["onnx", "savedmodel", "tensorrt-savedmodel"])
def test_what_is_no_engine_runs_on_a_gpu_where_there_is_one_and_else_on_the_cpu(kind: ArtifactKind) -> None:
    group, = parsed(IMAGE, kind).instance_group
    assert (group.KIND_AUTO, group.count) == (group.kind, 1)


def test_floats_of_a_known_shape_are_warmed_up_with_one_row() -> None:
    request, = parsed(IMAGE).model_warmup
    assert request.batch_size == 1
    assert warm_shapes(request) == {"image": [8, 8, 1]}
    fixed, = parsed(signature({"x": tensor("float32", 4, 8)}, {"y": tensor("float32", 4)})).model_warmup
    assert (fixed.batch_size, warm_shapes(fixed)) == (1, {"x": [4, 8]})


@pytest.mark.parametrize("inputs", [
    {"ids": tensor("int64", None, 16)}, {"text": tensor("string", None)}, {"audio": tensor("float32", None, None)},
    {"audio": tensor("float32", None, 16), "length": tensor("int32", None)}, {}])
def test_zeros_are_no_sentence_and_no_length_and_no_example(inputs: dict[str, TensorContract]) -> None:
    """Triton does not serve a model whose warm-up fails."""
    assert not parsed(signature(inputs, {"y": tensor("float32", None, 2)})).model_warmup


# --- Engines ---

ENCODER = signature({"ids": tensor("int32", None, None), "scale": tensor("float32", None)},
                    {"state": tensor("float32", None, None, 64)})


def profile(low: int, usual: int, high: int, length: int = 16) -> Profile:
    """Batches from ``low`` to ``high``, sentences of up to twice ``length``."""
    return {"ids": Extent(min=(low, 1), opt=(usual, length), max=(high, 2 * length)),
            "scale": Extent(min=(low,), opt=(usual,), max=(high,))}


def warm_shapes(request: Any) -> dict[str, list[int]]:
    assert all(value.zero_data for value in request.inputs.values())
    return {name: list(value.dims) for name, value in request.inputs.items()}


def test_an_engine_runs_on_the_gpu_and_all_of_its_profiles_are_used() -> None:
    """Without being told, Triton uses the first profile only."""
    group, = parsed(ENCODER, "tensorrt-plan", 32, (profile(1, 8, 32), profile(1, 1, 1))).instance_group
    assert (group.kind, group.count, list(group.profile)) == (group.KIND_GPU, 1, ["0", "1"])
    assert not parsed(ENCODER, "tensorrt-plan", 32, (profile(1, 8, 32),)).instance_group[0].profile


@pytest.mark.parametrize(("profiles", "asked", "most", "preferred"), [
    ((profile(1, 8, 32),), 32, 32, [8, 32]),
    ((profile(1, 8, 32),), 16, 16, [8, 16]),      # no more than was asked for
    ((profile(1, 8, 16),), 32, 16, [8, 16]),      # no more than the engine takes
    ((profile(1, 8, 16), profile(1, 1, 1)), 32, 16, [8, 16]),
    ((profile(1, 1, 1), profile(2, 4, 4), profile(5, 32, 64)), 48, 48, [4, 32, 48]),
    ((profile(1, 2, 4), profile(16, 16, 16)), 32, 4, [2, 4]),  # no profile takes 5 to 15
    ((profile(8, 8, 8),), 32, 8, [8]),            # clients have to send all 8
    ((profile(1, 1, 1),), 32, 1, []),
    ((profile(1, 1, 4),), 32, 4, [4]),            # a preference for 1 would end all batching
])
def test_batches_are_those_that_the_profiles_take_and_are_tuned_for(
        profiles: tuple[Profile, ...], asked: int, most: int, preferred: list[int]) -> None:
    config = parsed(ENCODER, "tensorrt-plan", asked, profiles)
    assert config.max_batch_size == most
    assert list(config.dynamic_batching.preferred_batch_size) == preferred
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_an_engine_is_warmed_up_in_each_profile_s_usual_shape() -> None:
    config = parsed(ENCODER, "tensorrt-plan", 16, (profile(1, 32, 64), profile(1, 1, 1, length=5)))
    assert config.platform == "tensorrt_plan"
    assert [(request.batch_size, warm_shapes(request)) for request in config.model_warmup] == [
        (16, {"ids": [16], "scale": [1]}), (1, {"ids": [5], "scale": [1]})]
    assert len({request.name for request in config.model_warmup}) == 2
    assert {value.data_type for request in config.model_warmup for value in request.inputs.values()} == {
        config.input[0].data_type, config.input[1].data_type}


def test_inputs_that_no_profile_names_have_one_shape() -> None:
    table = signature({"x": tensor("float32", None, 8), "table": tensor("float32", 3, 2)}, {"y": tensor("float32", 3)})
    config = parsed(table, "tensorrt-plan", 32, ({"x": Extent(min=(1, 8), opt=(4, 8), max=(9, 8))},))
    request, = config.model_warmup
    assert (config.max_batch_size, request.batch_size) == (0, 1)
    assert warm_shapes(request) == {"x": [4, 8], "table": [3, 2]}
    fixed = parsed(signature({"x": tensor("int32", 4, 8)}, {"y": tensor("float32", 4)}), "tensorrt-plan", 32, ())
    request, = fixed.model_warmup
    assert (fixed.max_batch_size, request.batch_size, warm_shapes(request)) == (0, 1, {"x": [4, 8]})


@pytest.mark.parametrize("dtype", ["string", "float64", "int16", "uint32"])
def test_a_dtype_that_engines_lack_is_refused_in_a_line(dtype: str) -> None:
    with pytest.raises(PipelineError, match=f"cannot serve 'x', {dtype}") as caught:
        config_text("demo", "tensorrt-plan", signature({"x": tensor(dtype, None, 2)}, {}), 8)
    assert "\n" not in str(caught.value)
