"""serving/kserve.yaml against the schema of KServe's InferenceService."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.publish.folders import GPU, publish
from tests.publish.test_compose import TRITON

SCHEMA = json.loads((Path(__file__).parent / "schemas/kserve-inferenceservice.json").read_text())


def services(root: Path) -> dict[str, Any]:
    found = list(yaml.safe_load_all((root / "serving/kserve.yaml").read_text()))
    for one in found:
        jsonschema.validate(one, SCHEMA)
    return {one["metadata"]["name"]: one["spec"]["predictor"]["model"] for one in found}


@pytest.mark.parametrize("change", [
    {"apiVersion": "serving.kserve.io/v1"}, {"spec": {"predictor": {"model": {"storageURI": "pvc://a"}}}},
    {"spec": {"predictor": {"model": {"resources": {"limits": {"memory": "much"}}}}}}])
def test_the_schema_knows_a_mistake(change: dict[str, Any]) -> None:
    whole = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {},
             "spec": {"predictor": {"model": {"storageUri": "pvc://a"}}}}
    jsonschema.validate(whole, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole | change, SCHEMA)


def test_each_model_of_tensorflow_serving_is_a_service(tmp_path: Path) -> None:
    publish(tmp_path, name="enko", host_mb=300)
    publish(tmp_path, name="koen", storage="gs://bucket/serving/")
    found = services(tmp_path)
    assert [*found] == ["enko", "koen"]
    assert found["enko"]["modelFormat"]["name"] == "tensorflow"
    assert (found["enko"]["protocolVersion"], found["enko"]["runtimeVersion"]) == ("v1", "2.14.1")
    assert [one["storageUri"] for one in found.values()] == ["pvc://models/serving/enko", "gs://bucket/serving/koen"]
    # 1.5 times two versions: KServe has one served, and a new one is loaded before the old one goes.
    assert found["enko"]["resources"] == {"requests": {"memory": "960Mi"}, "limits": {"memory": "960Mi"}}


def test_a_gpu_is_asked_for_where_the_model_needs_one(tmp_path: Path) -> None:
    publish(tmp_path, name="engine", kind="tensorrt-savedmodel", targets=GPU)
    publish(tmp_path, name="plain")
    found = services(tmp_path)
    assert found["engine"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert found["engine"]["runtimeVersion"] == "2.14.1-gpu"
    assert "nvidia.com/gpu" not in found["plain"]["resources"]["limits"]


def test_triton_is_one_service_with_the_whole_repository(tmp_path: Path) -> None:
    for name in ("one", "two"):
        publish(tmp_path, name=name, kind="onnx", targets=TRITON)
    model, = services(tmp_path).values()
    assert (model["modelFormat"]["name"], model["protocolVersion"]) == ("triton", "v2")
    assert (model["storageUri"], model["runtimeVersion"]) == ("pvc://models/serving/triton", "24.10-py3")


def test_names_that_kubernetes_refuses_are_replaced_and_the_model_keeps_its_own(tmp_path: Path) -> None:
    for name in ("En_Ko", "en-ko", "2021.v1", "en.ko"):
        publish(tmp_path, name=name)
    found = services(tmp_path)
    assert all(re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in found)
    assert {model.get("args", ["--model_name=en-ko"])[0] for model in found.values()} == {
        "--model_name=En_Ko", "--model_name=en-ko", "--model_name=2021.v1", "--model_name=en.ko"}
    assert len(found) == 4
