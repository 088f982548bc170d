"""`optimize` and `finalize` of the backend tensorrt, whole: with engines that are pretended, and real ones on a GPU.

What stands for an engine without a GPU is told in `pretended_tensorrt`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.conftest import ROOT, quick_demo
from tests.finalize.conftest import Gpu, hide_gpu
from trt_pipeline import api
from trt_pipeline.config.schema import BenchmarkSettings, Config
from trt_pipeline.conversion.tftrt.segment import engines as engines_of
from trt_pipeline.engine import recipe
from trt_pipeline.finalizing import kit
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.parity.reference import Reference
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.publish import publish, triton
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples import store
from trt_pipeline.samples.profiles import Extent
from trt_pipeline.stages import jobs, judging

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
DEMO = ROOT / "models/demo/1"
SAMPLES = str(ROOT / "calibration_data/demo_validation.npz")
EXAMPLES = str(ROOT / "calibration_data/demo_examples_validation.tfrecord")
WIDE = {"image": Extent(min=(1, 8, 8, 1), opt=(16, 8, 8, 1), max=(64, 8, 8, 1))}
GRAFTED = "tensorrt-savedmodel"


@pytest.fixture(scope="module")
def engines(gpu: Gpu) -> Iterator[Gpu]:
    """Besides TF-TRT's, TensorRT's own GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if gpu.pretended:
            patch.setenv("TRT_SHIM_PRETENDING", str(ROOT / "tests/tftrt_shim/pretend/sitecustomize.py"))
            patch.setenv("PYTHONPATH", str(HERE / "pretended_tensorrt"))
            patch.setattr(judging, "gpu_models", lambda: "pretended")
        yield gpu


@pytest.fixture(scope="module")
def python(engines: Gpu, request: pytest.FixtureRequest) -> Path | None:
    """What builds and runs engines, where the tests' own interpreter does not."""
    return None if engines.pretended or find_spec("tensorrt") else request.getfixturevalue("tensorrt_8")


def configured(folder: Path, python: Path | None, **changes: Any) -> Config:
    """For Triton without TensorFlow, which gets the plan, however fast the original is.

    What stays in TensorFlow of a signature runs beside its engine, so an interpreter with TensorRT
    alone cannot judge `classify`.
    """
    values: dict[str, Any] = {
        "targets": [{"kind": "triton", "version": "25.03"}],
        "backends": {"tensorrt": {"python": str(python)} if python else {}},
        "signatures": ["serving_default"] if python else ["serving_default", "classify"],
        "samples": {"validation": {"serving_default": SAMPLES} | ({} if python else {"classify": EXAMPLES})}}
    return quick_demo(folder, **values | changes)


@pytest.fixture(scope="module")
def ran(engines: Gpu, python: Path | None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunResult]:
    engines.forget()
    folder = tmp_path_factory.mktemp("ran")
    config = configured(folder / "serving", python)
    return config, api.optimize(config, backends=["tensorrt"], precisions=["fp16"], output=folder / "artifacts")


@pytest.fixture(scope="module")
def fp16(ran: tuple[Config, RunResult]) -> tuple[CandidateResult, Path]:
    _, result = ran
    return result.candidate("tensorrt/fp16"), Path(result.folder) / "candidates/tensorrt-fp16/model"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where there is no GPU; with what it is judged by, as a run packs it."""
    folder = tmp_path_factory.mktemp("converted") / "fp16"
    with pytest.MonkeyPatch.context() as patch:
        hide_gpu(patch)
        made = api.convert(DEMO, "tensorrt", "fp16", folder, signatures=["serving_default"],
                           options={"tensorrt": "8.5"})
        assert not made.artifact.built
        contract, answers = saved_model.read_contract(DEMO), folder.with_name("answers")
        samples = folder.with_name("samples")
        store.write(dict(np.load(SAMPLES)), samples)
        reference = jobs.refer(str(DEMO), contract.model_dump(mode="json"), ["serving_default"],
                               {"serving_default": str(samples)}, {}, 8, 8, str(answers), lambda done, total: None)
    kit.write(kit.Kit(contract=contract, signatures=("serving_default",), reference=Reference.model_validate(reference),
                      gate=Gate(), padding={}, profiles=(), benchmark=BenchmarkSettings(batch_sizes=(1,),
                                                                                        duration_s=0.2)),
              folder / kit.FOLDER, answers, {"serving_default": samples}, {})
    return folder


# --- A run where there is a GPU ---


def test_a_run_builds_judges_grafts_and_times(fp16: tuple[CandidateResult, Path], engines: Gpu) -> None:
    candidate, folder = fp16
    assert candidate.status == "ok", candidate.reason
    cut = ["core shapes"] if candidate.artifact and candidate.artifact.core else []
    assert [cost.stage for cost in candidate.stages] == ["convert", *cut, "finalize", "validate", "graft", "validate",
                                                         "benchmark"]
    assert candidate.verdict and candidate.verdict.estimate is None, "judged for real"
    assert candidate.benchmark
    made = candidate.artifact
    assert made
    assert (made.kind, made.files["serving_default"]) == ("tensorrt-plan", "serving_default/model.plan")
    assert made.built["tensorrt"].startswith("8.5.3")
    assert made.profiles["serving_default"][0]["image"].max == (8, 8, 8, 1), "the samples' corners end there"
    assert not [note for note in made.notes if "SavedModel" in note]
    assert all((folder / file).exists() for files in (made.files, made.also[GRAFTED]) for file in files.values())
    if engines.pretended:
        events = engines.events()
        assert set(events) == {"engine"}, "the graft was judged, and answered with its engine alone"


def test_the_graft_is_the_original_to_clients(fp16: tuple[CandidateResult, Path]) -> None:
    candidate, folder = fp16
    assert candidate.artifact
    model = folder / candidate.artifact.also[GRAFTED]["serving_default"]
    assert not differences(saved_model.read_contract(DEMO), saved_model.read_contract(model))
    nodes = engines_of(saved_model.read_meta_graph(model).graph_def)
    assert {node.attr["serialized_segment"].s for node in nodes} == {
        (folder / name / recipe.GRAFT_PLAN).read_bytes() for name in candidate.artifact.files}


def test_what_is_left_of_a_cut_signature_is_built_and_judged_beside_tensorflow(
        ran: tuple[Config, RunResult], fp16: tuple[CandidateResult, Path]) -> None:
    candidate, folder = fp16
    assert candidate.artifact and candidate.verdict
    if "classify" not in candidate.artifact.files:
        pytest.skip("needs an interpreter with TensorFlow and TensorRT: Python 3.10 and trt-pipeline[tensorrt]")
    core = candidate.artifact.core["classify"]
    assert [tensor.dtype for tensor in (*core.inputs.values(), *core.outputs.values())] == ["float32", "float32"]
    assert candidate.artifact.profiles["classify"][0]["image"].max == (8, 64)
    assert (folder / "classify/host/saved_model.pb").is_file()
    assert {output.signature for output in candidate.verdict.outputs} == {"serving_default", "classify"}
    repository = Path(ran[0].serving) / "triton"
    written = text_format.Parse((repository / "demo-classify/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert [tensor.name for tensor in (*written.input, *written.output)] == ["image", "scores"]
    assert "labels.txt" in (repository / "demo-classify/README.md").read_text(), "what the client has to do"


def test_triton_gets_the_plan(ran: tuple[Config, RunResult], fp16: tuple[CandidateResult, Path]) -> None:
    publication, = ran[1].publications
    assert publication.candidate == "tensorrt/fp16"
    assert publication.path
    version = Path(publication.path)
    assert (version / "model.plan").read_bytes() == (fp16[1] / "serving_default/model.plan").read_bytes()
    written = text_format.Parse((version.parent / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (written.platform, written.max_batch_size) == ("tensorrt_plan", 8)
    assert [(tensor.name, list(tensor.dims)) for tensor in written.input] == [("image", [8, 8, 1])]


@pytest.mark.parametrize(("server", "version"), [("tf-serving", "2.14-gpu"), ("triton", "24.05")])
def test_tensorflow_gets_the_graft(server: str, version: str, ran: tuple[Config, RunResult], tmp_path: Path,
                                   fp16: tuple[CandidateResult, Path]) -> None:
    """Where nothing else is to be had, for the original may be faster; a Triton with another TensorRT gets neither."""
    config = configured(tmp_path, None, targets=[{"kind": server, "version": version}])
    candidate, folder = fp16
    done, = publish.publish_all(config, ran[1].contract, config.signatures or (), (candidate,),
                                {candidate.name: folder}, "run", "digest", again=False)
    if server == "triton":
        assert done.candidate is None
        assert "no candidate that it can load" in done.why
        return
    assert candidate.artifact and done.path
    assert f"its engines want TensorRT {candidate.artifact.built['tensorrt']}" in done.why
    assert not differences(saved_model.read_contract(DEMO), saved_model.read_contract(Path(done.path)))
    manifest = json.loads((Path(done.path) / "trt_pipeline.json").read_text())
    assert (manifest["kind"], manifest["candidate"]) == (GRAFTED, "tensorrt/fp16")


def test_the_graft_can_be_a_model_of_triton(ran: tuple[Config, RunResult], fp16: tuple[CandidateResult, Path],
                                            tmp_path: Path) -> None:
    """It is a SavedModel as any other to it."""
    candidate, folder = fp16
    assert candidate.artifact
    graft = candidate.artifact.form([GRAFTED])
    assert graft
    contract = ran[1].contract.signatures["serving_default"]
    triton.publish(graft, folder, {contract.name: contract}, tmp_path, "demo", 8, {"digest": ""}, None)
    assert not differences(saved_model.read_contract(DEMO), saved_model.read_contract(
        tmp_path / "demo/1/model.savedmodel"))
    written = text_format.Parse((tmp_path / "demo/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert written.platform == "tensorflow_savedmodel"


@pytest.mark.gpu
def test_a_second_build_chooses_the_same_kernels(ran: tuple[Config, RunResult], fp16: tuple[CandidateResult, Path],
                                                 engines: Gpu) -> None:
    if engines.pretended:
        pytest.skip("nothing is timed where engines are pretended")
    again = api.sweep(ran[0], backends=["tensorrt"], precisions=["fp16"], output=Path(ran[1].folder).parents[1],
                      fresh=True)
    candidate = again.candidate("tensorrt/fp16")
    assert candidate.artifact
    assert not [note for note in candidate.artifact.notes if "timing cache" in note]
    layers = Path(again.folder) / "candidates/tensorrt-fp16/model/serving_default/layers.json"
    assert layers.read_text() == (fp16[1] / "serving_default/layers.json").read_text()


# --- Finishing what was converted elsewhere ---


@pytest.fixture(scope="module")
def finished(converted: Path, engines: Gpu, python: Path | None,
             tmp_path_factory: pytest.TempPathFactory) -> tuple[CandidateResult, Path]:
    engines.forget()
    target = tmp_path_factory.mktemp("finished") / "fp16"
    return api.finalize(converted, target, reference=DEMO, profiles=[WIDE], python=python), target


def test_it_is_finished_with_both_forms(finished: tuple[CandidateResult, Path], engines: Gpu) -> None:
    result, folder = finished
    assert result.status == "ok", result.reason
    assert result.benchmark
    assert result.artifact
    assert set(result.artifact.also) == {GRAFTED}, result.artifact.notes
    assert CandidateResult.model_validate_json((folder / "result.json").read_text()) == result
    assert (folder / result.artifact.files["serving_default"]).is_file()
    assert (folder / result.artifact.also[GRAFTED]["serving_default"] / "saved_model.pb").is_file()
    assert not [entry.name for entry in folder.iterdir() if entry.name.startswith(("+", "."))]
    assert result.artifact.profiles["serving_default"][0]["image"].max == (64, 8, 8, 1)
    if engines.pretended:
        assert set(engines.events()) == {"engine"}


@pytest.mark.gpu
def test_a_finished_one_can_be_judged_again(finished: tuple[CandidateResult, Path]) -> None:
    verdict = api.validate(DEMO, finished[1], SAMPLES, signatures=["serving_default"])
    assert verdict.passed
    assert verdict.estimate is None
