"""TF-TRT without a GPU: what is converted here is the very SavedModel that a GPU serves, and says the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.tftrt_shim.build import LIBRARIES, build
from tests.tftrt_shim.compare import differences as compare_on_shim
from trt_pipeline import api
from trt_pipeline.candidate import Candidate
from trt_pipeline.errors import Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.parity.tolerance import tolerance_from_floor
from trt_pipeline.samples import sources, store

pytestmark = pytest.mark.slow
ENKO, DEMO = ROOT / "models/enko/1", ROOT / "models/demo/1"
DATA = ROOT / "calibration_data"
# What the noise floor of a model allows at least; both models' floors are smaller.
BOUND = tolerance_from_floor(0.0)


def _samples(model: Path, files: dict[str, str], folder: Path) -> Path:
    """A batch of 8 for each signature."""
    contract = saved_model.read_contract(model)
    for name, file in files.items():
        read = sources.read(str(DATA / file), list(contract.signatures[name].inputs))
        store.write({key: np.asarray(value[:8]) for key, value in read.items()}, folder / quote(name, safe=""))
    return folder


@pytest.fixture(scope="module")
def demo_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _samples(DEMO, {"serving_default": "demo_validation.npz", "classify": "demo_examples_validation.tfrecord",
                           "lookup": "demo_names_validation.npz"}, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def enko_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _samples(ENKO, {"translate": "enko_validation.npz"}, tmp_path_factory.mktemp("enko"))


@pytest.fixture(scope="module")
def enko_fp16(tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Path]:
    folder = tmp_path_factory.mktemp("enko") / "fp16"
    return api.convert(ENKO, "tf-trt", "fp16", folder), folder


def _check(original: Path, converted: Path, samples: Path, python: Path | None = None) -> None:
    """The contract is the original's, and so is what the shim makes of the converted model."""
    assert not differences(saved_model.read_contract(original), saved_model.read_contract(converted))
    found = compare_on_shim(original, converted, build(python or Path(sys.executable), LIBRARIES), samples, python)
    assert len(found) == len(list(samples.iterdir()))
    assert not {name: error for name, error in found.items() if not isinstance(error, float) or error > BOUND}


def test_a_translator_s_decoder_step_is_one_engine(enko_fp16: tuple[Candidate, Path], enko_samples: Path) -> None:
    made, folder = enko_fp16
    coverage = made.artifact.coverage["translate"]
    assert coverage.nodes_in_largest >= 200
    assert coverage.flops_share == 1
    assert coverage.share > 0.9
    in_loops = [node for body in saved_model.read_meta_graph(folder / "model").graph_def.library.function
                if "while_body" in body.signature.name for node in body.node_def if node.op == "TRTEngineOp"]
    functions = {f.signature.name: f for f in saved_model.read_meta_graph(folder / "model").graph_def.library.function}
    assert max(len(functions[n.attr["segment_func"].func.name].node_def) for n in in_loops) >= 200
    _check(ENKO, folder / "model", enko_samples)


def test_three_signatures_with_tables_and_examples(demo_samples: Path, tmp_path: Path) -> None:
    made = api.convert(DEMO, "tf-trt", "fp32", tmp_path / "fp32")
    assert made.artifact.coverage.keys() == {"serving_default", "classify"}
    assert "LookupTableFindV2" in made.artifact.description["lookup"]["unchanged"]
    _check(DEMO, tmp_path / "fp32/model", demo_samples)


def test_a_convolutional_net_at_int8(demo_samples: Path, tmp_path: Path) -> None:
    """Calibrated from samples, then once more from the ranges file that this left: the same model."""
    made = api.convert(DEMO, "tf-trt", "int8", tmp_path / "int8", calibration=str(DATA / "demo.npz"),
                       signatures=["serving_default"])
    assert made.artifact.description["serving_default"]["convolutions in int8"] == 2
    again = api.convert(DEMO, "tf-trt", "int8", tmp_path / "again", ranges=tmp_path / "int8/ranges.json",
                        signatures=["serving_default"])
    assert again.artifact.description == made.artifact.description
    graph, same = (saved_model.read_meta_graph(tmp_path / name / "model").graph_def for name in ("int8", "again"))
    nodes, others = ([n for f in g.library.function for n in f.node_def if n.op == "QuantizeAndDequantizeV2"]
                     for g in (graph, same))
    assert len(nodes) == len(others) == 4
    verdict = api.validate(DEMO, tmp_path / "int8", str(DATA / "demo_validation.npz"), signatures=["serving_default"])
    assert verdict.passed, verdict.reason
    assert verdict.estimate
    assert verdict.estimate.surgery.passed
    assert verdict.error
    assert verdict.error > 1e-3, "int8 arithmetic really was emulated"


def test_a_model_without_convolutions_has_no_int8_here(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="use the backend tensorrt"):
        api.convert(ENKO, "tf-trt", "int8", tmp_path / "int8", calibration=str(DATA / "enko.npz"), padding={"input": 0})
    assert not (tmp_path / "int8").exists()


def test_an_estimator_with_string_labels(tmp_path: Path) -> None:
    """A TF1 export whose labels come from tables of its own: all of its signatures are converted."""
    import tensorflow as tf

    columns = [tf.feature_column.numeric_column(name) for name in "ab"]
    generator = np.random.default_rng(0)
    values = generator.normal(size=(64, 2)).astype(np.float32)
    labels = np.where(values[:, 0] > 0, b"yes", b"no")
    estimator = tf.estimator.DNNClassifier([16, 16], columns, label_vocabulary=["no", "yes"],
                                           model_dir=str(tmp_path / "training"))
    data = dict(zip("ab", values.T, strict=True)), labels
    estimator.train(lambda: tf.data.Dataset.from_tensor_slices(data).batch(16))
    exported = Path(estimator.export_saved_model(
        str(tmp_path / "exported"), tf.estimator.export.build_parsing_serving_input_receiver_fn(
            tf.feature_column.make_parse_example_spec(columns))).decode())
    with tf.io.TFRecordWriter(str(tmp_path / "samples.tfrecord")) as writer:
        for row in values:
            features = {name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                        for name, value in zip("ab", row, strict=True)}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    made = api.convert(exported, "tf-trt", "fp32", tmp_path / "fp32")
    signatures = {"classification", "regression", "serving_default", "predict"}
    assert made.artifact.coverage.keys() == signatures
    verdict = api.validate(exported, tmp_path / "fp32", str(tmp_path / "samples.tfrecord"))
    assert verdict.passed, verdict.reason
    assert {output.signature for output in verdict.outputs} == signatures


def test_variables_may_stay_variables(enko_samples: Path, enko_fp16: tuple[Candidate, Path], tmp_path: Path) -> None:
    made = api.convert(ENKO, "tf-trt", "fp16", tmp_path / "shared", options={"freeze": "never"})
    assert made.artifact.coverage["translate"].nodes_in_largest >= 200
    frozen, shared = (path / "model/saved_model.pb" for path in (enko_fp16[1], tmp_path / "shared"))
    assert shared.stat().st_size < frozen.stat().st_size / 10
    _check(ENKO, tmp_path / "shared/model", enko_samples)


def test_tensorflow_217_converts_the_same(tensorflow_217: Path, enko_fp16: tuple[Candidate, Path], demo_samples: Path,
                                          tmp_path: Path) -> None:
    there = api.convert(ENKO, "tf-trt", "fp16", tmp_path / "enko", python=tensorflow_217)
    assert there.artifact.coverage == enko_fp16[0].artifact.coverage
    api.convert(DEMO, "tf-trt", "fp32", tmp_path / "demo", python=tensorflow_217)
    _check(DEMO, tmp_path / "demo/model", demo_samples, tensorflow_217)


def test_tensorflow_221_says_what_to_do(tensorflow_221: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [str(tensorflow_221), "-m", "trt_pipeline", "convert", str(DEMO), "--backend", "tf-trt", "--precision", "fp16",
         "-o", str(tmp_path / "fp16")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    # What TensorFlow 2.21 itself logs stands before it.
    assert ended.stderr.splitlines()[-1] == (
        "trt-pipeline: error: TensorFlow 2.21.0 has no TF-TRT compiled in: use the 'tensorflow' wheel 2.14 to 2.17, "
        "or name an interpreter that has it under backends.tf-trt.python")
    assert not list(tmp_path.iterdir())
