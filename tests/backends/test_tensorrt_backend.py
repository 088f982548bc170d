"""The backend tensorrt as a run has it, without a GPU and with an interpreter that has TensorRT alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from tests.calibrated import calibrated
from tests.conftest import ROOT, quick_demo
from trt_pipeline import api, doctor, inspection
from trt_pipeline.backends.base import Artifact, ConversionRequest
from trt_pipeline.backends.tensorrt import TensorRT
from trt_pipeline.candidate import Candidate
from trt_pipeline.config.schema import Limits
from trt_pipeline.engine import options, recipe
from trt_pipeline.engine.availability import TensorRT as Found
from trt_pipeline.errors import ConfigError, InputError, MissingError, Unsupported
from trt_pipeline.model import saved_model
from trt_pipeline.parity.cases import Case
from trt_pipeline.publish import servers
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples import store
from trt_pipeline.stages import jobs, judging, worker

DEMO = ROOT / "models/demo/1"
DATA = ROOT / "calibration_data"
SAMPLES = str(DATA / "demo_validation.npz")
BOTH = ("serving_default", "classify")
NO_GPU = "no NVIDIA GPU here: finalize on the machine that will serve the model"
BACKEND = TensorRT()


@pytest.fixture(scope="module", autouse=True)
def _no_gpu() -> Iterator[None]:
    """Where there is one, it is hidden."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        patch.setattr(judging, "gpu_models", lambda: "")
        yield


def example(image: np.ndarray) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.load(DATA / "demo.npz")["image"][:64]


@pytest.fixture(scope="module")
def ranges(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = np.array([example(image) for image in images], dtype=object)
    return calibrated(DEMO, {"serving_default": {"image": images}, "classify": {"inputs": examples}},
                      tmp_path_factory.mktemp("ranges") / "ranges.json")


def convert(target: Path, precision: str, tensorrt: str, ranges: Path | None = None, **told: Any) -> Artifact:
    contract = saved_model.read_contract(DEMO)
    request = ConversionRequest(model=DEMO, tags=contract.tags, precision=precision, ranges=ranges,
                                **{"signatures": BOTH, "options": {"tensorrt": tensorrt}} | told)
    return BACKEND.convert(request, contract, target)


def operations(file: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(file)).graph.node]


# --- Options ---


def test_it_converts_for_the_tensorrt_that_builds() -> None:
    """That of its workers' interpreter, unless one is named; where there is none, TensorFlow Serving's."""
    assert BACKEND.complete_options({}, {"tensorrt": "8.5.3.1"}) == {"tensorrt": "8.5.3.1"}
    assert BACKEND.complete_options({}, {"tensorrt-cu13-bindings": "11.4.0"}) == {"tensorrt": "11.4.0"}
    assert BACKEND.complete_options({"tensorrt": "10.3"}, {"tensorrt": "8.5.3.1"}) == {"tensorrt": "10.3"}
    assert BACKEND.complete_options({"tensorrt": None}, {"tensorrt": "8.6.1.post1"}) == {"tensorrt": "8.6.1"}
    assert BACKEND.complete_options({}, {"numpy": "1.26"}) == {"tensorrt": "8.5"}


@pytest.mark.parametrize(("given", "told"), [
    ({"tensort": "8.5"}, r"no option 'tensort': .*did you mean 'tensorrt'\?"),
    ({"tensorrt": "8"}, ""), ({"tensorrt": "7.2"}, "option tensorrt: TensorRT 7.2 is too old: name 8.5 or later"),
    ({"tensorrt": "8.5", "version_compatible": True}, "version_compatible needs TensorRT 8.6 or later")])
def test_options_are_checked_before_any_work(given: dict[str, Any], told: str) -> None:
    if not told:
        BACKEND.check_options(given)
        return
    with pytest.raises(ConfigError, match=told):
        BACKEND.check_options(given)


# --- What is written ---


@pytest.fixture(scope="module")
def for_8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    folder = tmp_path_factory.mktemp("for-8") / "fp16"
    return convert(folder, "fp16", "8.5"), folder


def test_a_signature_is_a_folder_and_what_stays_in_tensorflow_is_told(for_8: tuple[Artifact, Path]) -> None:
    made, folder = for_8
    assert made.kind == "tensorrt-plan"
    assert made.also == {}, "until it is built"
    assert made.files == {name: f"{name}/model.onnx" for name in BOTH}
    assert list(made.core) == ["classify"]
    core = made.core["classify"]
    assert {name: tensor.dtype for name, tensor in (core.inputs | core.outputs).items()} == {
        "image": "float32", "scores": "float32"}
    assert not (folder / "serving_default/host").exists()
    assert (folder / "classify/host/saved_model.pb").is_file()
    assert all(note.startswith("classify: stays in TensorFlow, ") for note in made.notes)
    assert [sum(operation in note for note in made.notes) for operation in ("ParseExampleV2", "LookupTableFindV2")] == [
        1, 1]
    assert "labels.txt" in made.description["classify"]["client"][1]
    assert options.read(folder).tensorrt == "8.5"


def test_flags_or_types_by_version(for_8: tuple[Artifact, Path], tmp_path: Path) -> None:
    """For 8.5 the graph is float32 and flags say the precision; for 11 its own types do."""
    made, folder = for_8
    assert recipe.read(folder / "serving_default") == recipe.Recipe(precision="fp16", tensorrt="8.5", typed=False,
                                                                    graft=True)
    assert "Cast" not in operations(folder / "serving_default/model.onnx")
    assert BACKEND.stand_ins(made, "fp16") == {"surgery", "estimate"}
    typed = convert(tmp_path / "typed", "fp16", "11.4")
    known = recipe.read(tmp_path / "typed/serving_default")
    assert (known.typed, known.graft) == (True, False), "no TensorFlow has TensorRT 11"
    assert "Cast" in operations(tmp_path / "typed/serving_default/model.onnx")
    assert BACKEND.stand_ins(typed, "fp16") == {"estimate"}, "its float32 is not to be had"


def test_a_signature_of_nothing_but_a_table_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"^signature lookup: .*; where there are others, list them under"):
        convert(tmp_path / "all", "fp32", "8.5", signatures=("serving_default", "lookup"))


def test_inspect_says_what_is_cut_off() -> None:
    told = {blocker.op: blocker.why for blocker in inspection.inspect(DEMO).signatures["classify"].blockers["tensorrt"]}
    assert told["LookupTableFindV2"] == ("look-up tables stay in TensorFlow: cut off where the signature begins or "
                                         "ends with it, else replace it in the model")


def test_8_has_no_bf16_and_11_has(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"^TensorRT 8\.5 has no bf16: 9\.0 is the first that has$"):
        convert(tmp_path / "8", "bf16", "8.5", signatures=("serving_default",))
    convert(tmp_path / "11", "bf16", "11.4", signatures=("serving_default",))
    types = {value.type.tensor_type.elem_type for value in onnx.shape_inference.infer_shapes(
        onnx.load(str(tmp_path / "11/serving_default/model.onnx"))).graph.value_info}
    assert onnx.TensorProto.BFLOAT16 in types


def test_the_engine_for_tensorflow_can_be_left_out(tmp_path: Path) -> None:
    convert(tmp_path / "made", "fp32", "8.5", signatures=("serving_default",),
            options={"tensorrt": "8.5", "graft": "never"})
    assert not recipe.read(tmp_path / "made/serving_default").graft


# --- Islands ---


@pytest.fixture(scope="module")
def int8(ranges: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    folder = tmp_path_factory.mktemp("int8") / "int8"
    return convert(folder, "int8", "8.5", ranges), folder


def test_a_raised_node_keeps_its_weights_in_float32(int8: tuple[Artifact, Path], ranges: Path, tmp_path: Path) -> None:
    made, folder = int8
    low = made.low_precision["serving_default"]
    node = low.nodes[0]
    raised = convert(tmp_path / "raised", "int8", "8.5", ranges, raised={"serving_default": (node,)})
    assert raised.low_precision["serving_default"].kept[node] == "raised"
    assert node not in raised.low_precision["serving_default"].nodes
    before, after = (operations(path / "serving_default/model.onnx").count("DequantizeLinear")
                     for path in (folder, tmp_path / "raised"))
    assert 0 < after < before
    assert raised.low_precision["classify"] == made.low_precision["classify"], "the other signature is as it was"


def test_a_raised_node_is_fixed_in_float32_where_flags_lower_the_others(for_8: tuple[Artifact, Path],
                                                                        tmp_path: Path) -> None:
    made, folder = for_8
    node = made.low_precision["serving_default"].nodes[0]
    raised = convert(tmp_path / "raised", "fp16", "8.5", raised={"serving_default": (node,)})
    layers = recipe.read(tmp_path / "raised/serving_default").fp32_layers
    assert layers
    named = {one.name: one.op_type for one in onnx.load(str(tmp_path / "raised/serving_default/model.onnx")).graph.node}
    assert "Conv" in {named[layer] for layer in layers}, "they are layers of this very file"
    assert raised.low_precision["serving_default"].kept[node] == "raised"
    assert recipe.read(tmp_path / "raised/classify").fp32_layers == recipe.read(folder / "classify").fp32_layers == ()


# --- A run without a GPU ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tensorrt_8: Path, images: np.ndarray) -> RunResult:
    """Estimates are accepted, of what a server could finish; plans it could not."""
    folder = tmp_path_factory.mktemp("run")
    with tf.io.TFRecordWriter(str(folder / "examples.tfrecord")) as written:
        for image in images:
            written.write(example(image))
    config = quick_demo(
        folder / "serving", signatures=list(BOTH), accept_estimates=True,
        samples={"validation": {"serving_default": SAMPLES,
                                "classify": str(DATA / "demo_examples_validation.tfrecord")},
                 "calibration": {"serving_default": str(DATA / "demo.npz"),
                                 "classify": str(folder / "examples.tfrecord")}},
        backends={"tensorrt": {"python": str(tensorrt_8)}},
        targets=[{"kind": "triton", "version": "22.12"}, {"kind": "tf-serving", "version": "2.14-gpu"}])
    return api.optimize(config, backends=["tensorrt"], precisions=["fp32", "int8"],
                        output=folder / "artifacts")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_candidates_are_pending_with_what_could_be_judged(precision: str, run: RunResult) -> None:
    row = run.candidate(f"tensorrt/{precision}")
    told = {"fp32": "converted graph within ", "int8": "estimated on CPU: passes its gate"}
    assert row.status == "pending-gpu"
    assert told[precision] in row.reason
    assert row.reason.endswith(NO_GPU)
    assert row.benchmark is None
    assert row.verdict and row.verdict.estimate
    assert {output.signature for output in row.verdict.outputs} == set(BOTH)
    # Q/DQ in the graph is what int8 is; without it there is no int8 network to compare.
    assert (row.verdict.estimate.surgery is None) == (precision == "int8")
    assert row.artifact
    assert row.artifact.description["serving_default"]["for TensorRT"] == "8.5.3.1", "what its interpreter has"


@pytest.mark.slow
def test_what_is_not_built_is_never_published(run: RunResult) -> None:
    assert [publication.candidate for publication in run.publications] == ["original", "original"]


# --- A candidate converted here ---


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, tensorrt_8: Path) -> Candidate:
    return api.convert(DEMO, "tensorrt", "fp16", tmp_path_factory.mktemp("converted") / "fp16", signatures=BOTH,
                       python=tensorrt_8)


@pytest.mark.slow
def test_it_is_judged_here_and_timed_elsewhere(converted: Candidate) -> None:
    verdict = api.validate(DEMO, converted.folder, SAMPLES, signatures=["serving_default"])
    assert verdict.passed
    assert verdict.estimate and verdict.estimate.pending.endswith(NO_GPU)
    assert verdict.estimate.surgery and verdict.estimate.surgery.passed
    assert verdict.estimate.surgery.error < verdict.error, "what fp16 costs is estimated"
    with pytest.raises(MissingError, match=f"^tensorrt cannot be timed here: .*{NO_GPU}$"):
        api.benchmark(DEMO, converted.folder, SAMPLES, signatures=["serving_default"])


@pytest.mark.slow
def test_finalize_wants_the_original_and_a_gpu(run: RunResult, converted: Candidate, tmp_path: Path) -> None:
    """Of a run's candidate, which brings along what it is judged by, and of one that does not."""
    of_run = Path(run.folder) / "candidates/tensorrt-int8"
    with pytest.raises(ConfigError, match=r"^--reference is missing: tensorrt is timed against the original"):
        api.finalize(of_run, tmp_path / "finished")
    with pytest.raises(InputError, match="has no samples and answers to be judged by"):
        api.finalize(converted.folder, tmp_path / "finished", reference=DEMO)
    with pytest.raises(MissingError, match=f"^tensorrt cannot be finalized here: .*{NO_GPU}$") as raised:
        api.finalize(of_run, tmp_path / "finished", reference=DEMO, python=sys.executable)
    assert raised.value.exit_status == 3
    assert not list(tmp_path.iterdir())


def test_what_was_built_is_judged_by_its_engines_or_not_at_all(for_8: tuple[Artifact, Path]) -> None:
    built = for_8[0].model_copy(update={"built": {"tensorrt": "8.5.3.1"}})
    with pytest.raises(MissingError, match=f"^tensorrt cannot be judged here: .*{NO_GPU}$"):
        BACKEND.stand_ins(built, "fp16")
    graft = built.model_copy(update={"kind": "tensorrt-savedmodel"})
    with pytest.raises(MissingError, match=r"^tensorrt cannot be judged here: TensorFlow sees no NVIDIA GPU here"):
        BACKEND.stand_ins(graft, "fp16")


def test_stages_run_where_their_libraries_are(for_8: tuple[Artifact, Path]) -> None:
    made = for_8[0]
    built = made.model_copy(update={"built": {"tensorrt": "8.5.3.1"}})
    graft = built.model_copy(update={"kind": "tensorrt-savedmodel"})
    apart = {name: [stage for stage in ("convert", "finalize", "validate", "benchmark")
                    if BACKEND.runs_apart(stage, artifact)]
             for name, artifact in (("made", made), ("built", built), ("graft", graft))}
    assert apart == {"made": ["finalize", "benchmark"], "built": ["finalize", "validate", "benchmark"], "graft": []}
    assert servers.LOADERS.keys() >= {TensorRT.kind, *TensorRT.also}


# --- An interpreter with TensorRT alone ---


def worked(python: Path, log: Path, function: Any, **told: Any) -> Any:
    """What ``function`` returns in a worker under ``python``."""
    return worker.run(function, told, Limits(time_s=60), log, python=python).value


@pytest.fixture
def of_both(for_8: tuple[Artifact, Path], images: np.ndarray, tmp_path: Path) -> dict[str, Any]:
    """What finalizing wants to know, but for the shapes of cores."""
    samples = {"serving_default": {"image": images[:8]},
               "classify": {"inputs": np.array([example(image) for image in images[:8]], dtype=object)}}
    for name, arrays in samples.items():
        store.write(arrays, tmp_path / "samples" / name)
    cases = [Case(signature=name, group="samples", rows=tuple(range(size))) for name in BOTH for size in (1, 8)]
    made, folder = for_8
    return {"backend_name": "tensorrt", "artifact": made.model_dump(mode="json"), "artifact_folder": str(folder),
            "contract": saved_model.read_contract(DEMO).model_dump(mode="json"), "padding": {}, "profiles": [],
            "batch_sizes": [1, 16],
            "cases": [case.model_dump(mode="json") for case in cases],
            "samples": {name: str(tmp_path / "samples" / name) for name in BOTH}}


@pytest.fixture
def asked(of_both: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The same of a candidate with the whole signature alone, without an engine for TensorFlow."""
    source = Path(of_both["artifact_folder"], "serving_default")
    shutil.copytree(source, tmp_path / "made/serving_default")
    shutil.copy(source.with_name("options.json"), tmp_path / "made")
    known = recipe.read(source)
    recipe.write(known.model_copy(update={"graft": False}), tmp_path / "made/serving_default")
    made = of_both["artifact"]
    return of_both | {"artifact_folder": str(tmp_path / "made"),
                      "artifact": made | {"core": {}, "files": {"serving_default": "serving_default/model.onnx"}},
                      "cases": [case for case in of_both["cases"] if case["signature"] == "serving_default"]}


def test_the_shapes_of_cores_are_those_that_tensorflow_makes(of_both: dict[str, Any]) -> None:
    assert jobs.core_shapes(**of_both, folder="", progress=lambda done, total: None) == {
        "requests": [["classify", {"image": ["float32", size, 64]}] for size in (1, 8, 1, 16)]}


def test_it_does_not_take_what_needs_tensorflow_too(tensorrt_8: Path, of_both: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=f"signature classify stays in TensorFlow.* {tensorrt_8} -m pip install"):
        worked(tensorrt_8, tmp_path / "log.txt", jobs.finalize, **of_both, calibration={},
               folder=str(tmp_path / "built"))
    assert not (tmp_path / "built").exists()


def test_it_says_what_it_lacks(tensorrt_8: Path, asked: dict[str, Any], tmp_path: Path) -> None:
    """And that is a GPU, no package."""
    target, log = tmp_path / "built", tmp_path / "log.txt"
    with pytest.raises(MissingError, match=f"^tensorrt cannot be finalized here: .*{NO_GPU}$"):
        worked(tensorrt_8, log, jobs.finalize, **asked, calibration={}, folder=str(target))
    assert not target.exists()
    found = Found.model_validate(worked(tensorrt_8, log, jobs.examine_tensorrt, folder=str(tmp_path)))
    assert (found.version, found.gpu) == ("8.5.3.1", "")
    assert found.polygraphy
    assert found.why_not_build == f"CUDA sees {NO_GPU}"
    built = asked["artifact"] | {"built": {"tensorrt": "8.5.3.1"}}
    with pytest.raises(MissingError, match=f"^tensorrt cannot be judged here: .*{NO_GPU}$"):
        worked(tensorrt_8, log, jobs.validate, **{key: asked[key] for key in (
            "backend_name", "artifact_folder", "contract", "samples", "padding")}, artifact=built, precision="fp16",
            reference_index={"cases": [], "outputs": {}}, reference_folder="", gate={}, folder="")


def test_it_finalizes_without_tensorflow(tensorrt_8: Path, asked: dict[str, Any], tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the build, which is pretended; twice."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/finalize/pretended_tensorrt"))
    monkeypatch.setenv("TRT_SHIM_PRETENDING", str(ROOT / "tests/tftrt_shim/pretend/sitecustomize.py"))
    notes = []
    for target in (tmp_path / "first", tmp_path / "second"):
        done = Artifact.model_validate(worked(
            tensorrt_8, tmp_path / "log.txt", jobs.finalize, **asked, calibration={}, folder=str(target),
            kept=str(tmp_path / "kept")))
        notes.append([note for note in done.notes if note.startswith("serving_default")])
        assert (target / done.files["serving_default"]).name == "model.plan"
        assert (target / done.files["serving_default"]).is_file()
    profile, = done.profiles["serving_default"]
    assert (profile["image"].min, profile["image"].max) == ((1, 8, 8, 1), (16, 8, 8, 1))
    assert done.built["compute capability"] == "8.6"
    assert notes == [[], ["serving_default: with known kernel times"]], "those of the first build"


def test_the_doctor_says_what_is_there(tensorrt_8: Path) -> None:
    found = {finding.what: finding for finding in doctor.examine(tensorrt_8)}
    assert found["polygraphy"].ok and found["numpy"].ok and found["pydantic"].ok
    assert "tensorflow" not in found, "it needs none"
    assert (found["TensorRT"].found, found["TensorRT"].ok) == ("8.5.3.1; no GPU", False)
    assert "no NVIDIA GPU" in found["TensorRT"].cure
