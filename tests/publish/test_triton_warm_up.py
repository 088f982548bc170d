"""Real requests to warm up with: what Triton is told of them, and the files that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.publish.signatures import IMAGE, signature, tensor
from trt_pipeline.backends.base import Artifact
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.publish import triton, triton_warm_up
from trt_pipeline.publish.triton_config import config_text
from trt_pipeline.samples.profiles import Extent

WORDS = signature({"ids": tensor("int64", None, None), "text/raw": tensor("string", None)},
                  {"y": tensor("float32", None, 4)})
REQUEST = {"ids": np.array([[7, 8, 9], [1, 2, 0]], np.int64), "text/raw": np.array([b"ab", b""], object)}


def parsed(text: str) -> Any:
    """The configuration as Triton's own message."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse(text, messages.ModelConfig())


def test_a_request_s_first_row_is_repeated_to_its_batch() -> None:
    config = parsed(config_text("m", "onnx", WORDS, 32, requests=(REQUEST,)))
    warm_up, = config.model_warmup
    assert warm_up.batch_size == 2
    assert {name: (list(one.dims), one.data_type, one.input_data_file) for name, one in warm_up.inputs.items()} == {
        "ids": ([3], config.input[0].data_type, "0-ids"),
        "text/raw": ([1], config.input[1].data_type, "0-text%2Fraw")}
    one, = triton_warm_up.of_requests((REQUEST,), WORDS, 32)
    assert triton_warm_up.files((one,)) == {
        "warmup/0-ids": np.array([7, 8, 9], "<i8").tobytes(), "warmup/0-text%2Fraw": b"\x02\x00\x00\x00ab"}


def test_no_batch_is_larger_than_triton_forms() -> None:
    assert [one.rows for one in triton_warm_up.of_requests((REQUEST,), WORDS, 1)] == [1]


def test_what_is_not_batched_is_sent_whole() -> None:
    table = signature({"ids": tensor("int32", 2, 3)}, {"y": tensor("float32", 2)})
    request = {"ids": np.arange(6).reshape(2, 3)}
    one, = triton_warm_up.of_requests((request,), table, 0)
    assert (one.rows, one.shapes, one.data) == (1, {"ids": (2, 3)}, {"ids": np.arange(6, dtype="<i4").tobytes()})


@pytest.mark.parametrize(("contract", "request_"), [
    (WORDS, {"ids": REQUEST["ids"]}),
    (WORDS, {**REQUEST, "ids": np.zeros((2, 0), np.int64)}),
    (signature({"x": tensor("bfloat16", None, 2)}, {}), {"x": np.zeros((1, 2), np.float32)}),
    (signature({}, {"y": tensor("float32", 2)}), {}),
], ids=["an input is missing", "no elements", "no such dtype in numpy", "no inputs"])
def test_what_cannot_be_sent_is_left_out(contract: SignatureContract, request_: dict[str, Any]) -> None:
    """Triton does not serve a model whose warm-up fails, and may crash over it."""
    assert list(triton_warm_up.of_requests((request_,), contract, 8)) == []


def test_real_requests_take_the_place_of_zeros() -> None:
    image = {"image": np.ones((4, 8, 8, 1), np.float32)}
    warm_up, = parsed(config_text("m", "savedmodel", IMAGE, 8, requests=(image,))).model_warmup
    assert (warm_up.batch_size, warm_up.inputs["image"].input_data_file) == (4, "0-image")


def test_parameters_go_to_the_backend_beside_the_signature() -> None:
    config = parsed(config_text("m", "savedmodel", IMAGE, 8, parameters={"TF_NUM_INTRA_THREADS": "2"}))
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "TF_SIGNATURE_DEF": "serving_default", "TF_NUM_INTRA_THREADS": "2"}


def publish(folder: Path, artifact: Artifact, contract: SignatureContract, *requests: dict[str, Any]) -> int:
    return triton.publish(artifact, folder, {contract.name: contract}, folder / "serving/triton", "m", 8,
                          {"digest": "a"}, None, requests={contract.name: requests})[0]


def test_the_data_lies_where_triton_looks_and_changes_with_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("onnx")
    made = Artifact(kind="onnx", files={WORDS.name: "model.onnx"})
    model = tmp_path / "serving/triton/m"
    assert publish(tmp_path, made, WORDS, REQUEST) == 1
    assert {file.name for file in (model / "warmup").iterdir()} == {"0-ids", "0-text%2Fraw"}
    assert publish(tmp_path, made, WORDS, REQUEST) == 1, "nothing is new"
    other = {**REQUEST, "ids": REQUEST["ids"] + 1}
    assert publish(tmp_path, made, WORDS, other) == 2
    assert (model / "warmup/0-ids").read_bytes() == np.array([8, 9, 10], "<i8").tobytes()
    assert (model / "1/warmup/0-ids").read_bytes() == np.array([7, 8, 9], "<i8").tobytes()
    assert publish(tmp_path, made, WORDS) == 3
    assert not (model / "warmup").exists()


def test_an_engine_runs_each_profile_and_no_request(tmp_path: Path) -> None:
    """What it holds may be the core of its signature, which is fed something else."""
    from trt_pipeline.engine import recipe

    (tmp_path / "model.plan").write_text("plan")
    recipe.write(recipe.Recipe(precision="fp16", tensorrt="10.5.0", typed=False, narrowed={}), tmp_path)
    core = signature({"state": tensor("float32", None, 4)}, {"y": tensor("float32", None, 4)})
    plan = Artifact(kind="tensorrt-plan", files={WORDS.name: "model.plan"}, core={WORDS.name: core},
                    profiles={WORDS.name: ({"state": Extent(min=(1, 4), opt=(2, 4), max=(8, 4))},)})
    publish(tmp_path, plan, WORDS, REQUEST)
    warm_up, = parsed((tmp_path / "serving/triton/m/config.pbtxt").read_text()).model_warmup
    assert warm_up.inputs["state"].zero_data
    assert not (tmp_path / "serving/triton/m/warmup").exists()
