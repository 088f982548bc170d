"""`optimize iris` through the command line: an Estimator's tf.Example and raw signatures, judged and published."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.iris.flowers import FEATURES, SPECIES
from tests.conftest import ROOT
from trt_pipeline import estimators
from trt_pipeline.backends.base import Backend, ConversionRequest
from trt_pipeline.backends.tensorflow import TensorFlow
from trt_pipeline.backends.tf_trt import TfTrt
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.run_result import RunResult

pytestmark = pytest.mark.slow
IRIS = ROOT / "models/iris/1"
METHODS = {"predict": "tensorflow/serving/predict", "serving_default": "tensorflow/serving/classify"}
SETOSA = {"SepalLength": [5.1], "SepalWidth": [3.3], "PetalLength": [1.7], "PetalWidth": [0.5]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of configs/iris.yaml with three of its candidates, each timed for a moment."""
    folder = tmp_path_factory.mktemp("iris")
    config = yaml.safe_load((ROOT / "configs/iris.yaml").read_text())
    config["candidates"] = ["tensorflow/fp32", "onnxruntime/fp32", "tensorrt/fp32"]
    config["benchmark"] = {"batch_sizes": [1], "duration_s": 0.5}
    (folder / "iris.yaml").write_text(yaml.safe_dump(config))
    ran = subprocess.run(
        [sys.executable, "-m", "trt_pipeline", "optimize", str(folder / "iris.yaml"), "--output",
         str(folder / "artifacts"), "--serving", str(folder / "serving")],
        cwd=ROOT, text=True, capture_output=True, check=False, env=os.environ | {"COLUMNS": "120"})
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> RunResult:
    written = next((folder / "artifacts/iris").glob("2*/report.json"))
    return RunResult.model_validate_json(written.read_text())


@pytest.mark.parametrize("name", ["tensorflow/fp32", "tensorrt/fp32"])
def test_every_output_of_both_signatures_is_judged_strings_too(name: str, result: RunResult) -> None:
    candidate = result.candidate(name)
    assert candidate.status == ("ok" if name == "tensorflow/fp32" else "pending-gpu"), candidate.reason
    assert candidate.verdict is not None
    assert candidate.verdict.passed
    gates = {(one.signature, one.output): one.gate for one in candidate.verdict.outputs}
    assert gates["serving_default", "classes"] == gates["predict", "classes"] == "exact"
    assert "top-1" in gates["serving_default", "scores"]
    assert len(gates) == 8


def test_onnx_has_no_strings_and_says_so(result: RunResult) -> None:
    candidate = result.candidate("onnxruntime/fp32")
    assert candidate.status == "unsupported"
    assert candidate.reason == "signature predict: 'all_classes' is a string; list the numeric ones under 'signatures'"


def test_tensorrt_takes_the_numeric_core_of_both(result: RunResult) -> None:
    artifact = result.candidate("tensorrt/fp32").artifact
    assert artifact is not None
    assert {name: sorted(core.inputs) for name, core in artifact.core.items()} == dict.fromkeys(
        METHODS, sorted(FEATURES))


@pytest.mark.parametrize(("backend", "precision"), [(TensorFlow(), "bf16"), (TfTrt(), "fp16")])
def test_other_savedmodels_keep_the_whole_contract_too(backend: Backend, precision: str, tmp_path: Path) -> None:
    contract = saved_model.read_contract(IRIS)
    request = ConversionRequest(model=IRIS, tags=("serve",), signatures=tuple(contract.signatures), precision=precision)
    artifact = backend.convert(request, contract, tmp_path / "made")
    made = saved_model.read_contract(tmp_path / "made" / artifact.files["predict"])
    assert differences(contract, made) == []
    assert {name: one.method_name for name, one in made.signatures.items()} == METHODS
    assert not [one for one in artifact.description.values() if "unchanged" in one]


@pytest.mark.parametrize("place", [
    "iris/1", "triton/iris/1/model.savedmodel", "triton/iris-predict/1/model.savedmodel"])
def test_what_is_published_says_what_the_original_says(place: str, folder: Path) -> None:
    published, original = folder / "serving" / place, IRIS
    assert differences(saved_model.read_contract(original), saved_model.read_contract(published)) == []
    flowers = dict(np.load(ROOT / "calibration_data/iris_validation.npz"))
    with estimators.Predictor(published) as new, estimators.Predictor(original) as old:
        said, expected = new(flowers), old(flowers)
        for output in ("classes", "all_classes", "class_ids", "all_class_ids"):
            np.testing.assert_array_equal(said[output], expected[output])
        np.testing.assert_allclose(said["probabilities"], expected["probabilities"], atol=1e-6)
        flower = {name: value[0] for name, value in SETOSA.items()}
        classified = new.classify([flower])
    assert classified["classes"].tolist() == [[name.encode() for name in SPECIES]]
    assert classified["scores"][0, 0] > 0.9


def test_triton_serves_each_signature_under_a_name_of_its_own(folder: Path) -> None:
    plain, predict = ((folder / "serving/triton" / name / "config.pbtxt").read_text()
                      for name in ("iris", "iris-predict"))
    assert 'key: "TF_SIGNATURE_DEF" value { string_value: "serving_default" }' in plain
    assert '{ name: "inputs", data_type: TYPE_STRING,' in plain
    assert 'key: "TF_SIGNATURE_DEF" value { string_value: "predict" }' in predict
    assert '{ name: "PetalWidth", data_type: TYPE_FP32, dims: [ 1 ] }' in predict
