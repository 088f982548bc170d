"""`finalize`, whole, twice: with engines that the CPU shim builds, and with real ones where there is a GPU."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, quick_demo
from tests.finalize.conftest import Gpu, hide_gpu
from tests.server_process import server_process
from trt_pipeline import api
from trt_pipeline.errors import ConfigError, InputError, MissingError, OutputError, PipelineError
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.results import CandidateResult
from trt_pipeline.run_result import RunResult
from trt_pipeline.samples.profiles import Extent
from trt_pipeline.stages import judging

pytestmark = pytest.mark.slow
DEMO = ROOT / "models/demo/1"
SAMPLES = str(ROOT / "calibration_data/demo_validation.npz")
ONE = ["serving_default"]
WIDE = {"image": Extent(min=(1, 8, 8, 1), opt=(16, 8, 8, 1), max=(64, 8, 8, 1))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finalize")


@pytest.fixture(scope="module")
def pending(folder: Path) -> RunResult:
    """A run that finds no GPU: its candidates bring along what finalize needs."""
    config = quick_demo(folder / "serving", backends={"tf-trt": {"options": {"calibrator": "tensorrt"}}})
    with pytest.MonkeyPatch.context() as patch:
        hide_gpu(patch)
        patch.setattr(judging, "gpu_models", lambda: "")
        return api.sweep(config, backends=["tf-trt"], precisions=["fp16", "int8"], output=folder / "artifacts")


@pytest.fixture(scope="module")
def converted(pending: RunResult, folder: Path) -> Path:
    """The fp16 candidate, taken to another machine."""
    shutil.copytree(Path(pending.folder) / "candidates/tf-trt-fp16", folder / "fp16")
    return folder / "fp16"


@pytest.fixture(scope="module")
def finished(converted: Path, gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> tuple[CandidateResult, Path]:
    gpu.forget()
    target = tmp_path_factory.mktemp("finished") / "fp16"
    return api.finalize(converted, target, profiles=[WIDE]), target


def test_without_a_gpu_candidates_are_pending(pending: RunResult) -> None:
    fp16, int8 = (pending.candidate(f"tf-trt/{precision}") for precision in ("fp16", "int8"))
    assert fp16.status == int8.status == "pending-gpu"
    assert "estimated on CPU: passes its gate" in fp16.reason
    assert "not estimated: TensorRT's own calibrator" in int8.reason
    for candidate in (fp16, int8):
        assert candidate.verdict
        assert candidate.verdict.estimate
        assert candidate.verdict.estimate.surgery.passed
        assert candidate.benchmark is None


def test_accepted_estimates_are_published_for_servers_with_a_gpu(pending: RunResult, folder: Path, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    hide_gpu(monkeypatch)
    monkeypatch.setattr(judging, "gpu_models", lambda: "")
    targets = [{"kind": "tf-serving", "version": version} for version in ("2.14", "2.14.1-gpu")]
    config = quick_demo(tmp_path, accept_estimates=True, targets=targets,
                        backends={"tf-trt": {"options": {"calibrator": "tensorrt"}}})
    run = api.optimize(config, backends=["tf-trt"], precisions=["fp16", "int8"], output=folder / "artifacts")
    assert [publication.candidate for publication in run.publications] == ["original", "tf-trt/fp16"]
    assert run.candidate("tf-trt/int8").status == "pending-gpu", "of which there is no estimate to accept"


def test_a_gpu_that_tensorflow_cannot_use_leaves_candidates_pending(pending: RunResult, folder: Path, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is there and the libraries are not."""
    hide_gpu(monkeypatch)
    monkeypatch.setattr(judging, "gpu_models", lambda: "a GPU")
    config = quick_demo(tmp_path, backends={"tf-trt": {"options": {"calibrator": "tensorrt"}}})
    run = api.sweep(config, backends=["tf-trt"], precisions=["fp16"], output=folder / "artifacts")
    assert run.candidate("tf-trt/fp16").status == "pending-gpu"
    assert "tf-trt cannot be finalized here: TensorFlow sees no NVIDIA GPU" in run.candidate("tf-trt/fp16").reason


def test_it_cannot_be_timed_here(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_gpu(monkeypatch)
    with pytest.raises(MissingError, match="tf-trt cannot be timed here: TensorFlow sees no NVIDIA GPU"):
        api.benchmark(DEMO, converted, SAMPLES, signatures=ONE)


def test_every_engine_is_built_once_and_answers_everything(finished: tuple[CandidateResult, Path], gpu: Gpu) -> None:
    result, _ = finished
    assert result.status == "ok", result.reason
    assert result.verdict
    assert result.verdict.estimate is None, "judged for real"
    if gpu.pretended:
        events = gpu.events()
        assert len(events["build"]) == len(events["save"]) == 1
        assert len(events["load"]) == 2, "judged and timed in processes of their own"
        assert events["profile"]
        assert "native" not in events


def test_the_finished_model_keeps_the_contract_and_says_what_it_was_built_with(
        finished: tuple[CandidateResult, Path], gpu: Gpu) -> None:
    result, folder = finished
    assert not differences(saved_model.read_contract(DEMO), saved_model.read_contract(folder / "model"))
    assert len(list((folder / "model/assets").glob(f"{saved_model.ENGINE_ASSET}*"))) == 1
    written = CandidateResult.model_validate_json((folder / "result.json").read_text())
    assert written == result
    assert written.artifact
    assert written.artifact.built.keys() == {"gpu", "tensorrt", "tensorflow", "engines"}
    assert written.artifact.built["engines"] == "1"
    if gpu.pretended:
        assert written.artifact.built["gpu"] == "pretended"


def test_it_is_timed_cold_first_and_steady(finished: tuple[CandidateResult, Path]) -> None:
    timed = finished[0].benchmark
    assert timed
    assert timed.load_s > 0
    assert timed.first_request_s > 0
    assert [batch.batch_size for batch in timed.batches] == [1]


def test_the_profile_reaches_beyond_the_samples_and_no_further(finished: tuple[CandidateResult, Path]) -> None:
    """Its largest batch is 64, the samples' corners end at 8."""
    api.benchmark(DEMO, finished[1], SAMPLES, batch_sizes=[64], duration_s=0.2, signatures=ONE)
    with pytest.raises(PipelineError, match="native segment"):
        api.benchmark(DEMO, finished[1], SAMPLES, batch_sizes=[128], duration_s=0.2, signatures=ONE)


def test_it_is_served(finished: tuple[CandidateResult, Path], tmp_path: Path) -> None:
    """Over TensorFlow Serving's REST API, by the preview server: the answers are the original's."""
    shutil.copytree(finished[1] / "model", tmp_path / "demo/1")
    images = np.load(SAMPLES)["image"][:4]
    body = json.dumps({"instances": images.tolist()}).encode()
    with server_process({"demo": tmp_path / "demo"}) as server:
        request = urllib.request.Request(f"{server.rest}/v1/models/demo:predict", body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            answers = json.loads(answer.read())["predictions"]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(DEMO))
    expected = loaded.signatures["serving_default"](image=tf.constant(images))["probabilities"].numpy()
    np.testing.assert_allclose([answer["probabilities"] for answer in answers], expected, atol=1e-2)


def test_other_samples_and_the_original_can_be_given(converted: Path, gpu: Gpu, tmp_path: Path) -> None:
    """As CI does that converts with `trt-pipeline convert` and judges where the GPU is."""
    bare = tmp_path / "bare"
    shutil.copytree(converted / "model", bare, ignore=shutil.ignore_patterns("kit"))
    result = api.finalize(bare, tmp_path / "finished", reference=DEMO, samples=SAMPLES, signatures=ONE)
    assert result.status == "ok", result.reason


def test_tensorrt_calibrates_itself(pending: RunResult, gpu: Gpu, tmp_path: Path) -> None:
    gpu.forget()
    api.finalize(Path(pending.folder) / "candidates/tf-trt-int8", tmp_path / "finished")
    graph = saved_model.read_meta_graph(tmp_path / "finished/model").graph_def
    tables = [node.attr["calibration_data"].s for body in graph.library.function for node in body.node_def
              if node.op == "TRTEngineOp"]
    assert tables
    assert all(tables)
    if gpu.pretended:
        assert len(gpu.events()["calibrate"]) > 10
        assert all(table.startswith(b"TRT-shim-calibration") for table in tables)


def test_a_run_on_a_gpu_finalizes_by_itself(pending: RunResult, folder: Path, gpu: Gpu,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu.pretended:
        monkeypatch.setattr(judging, "gpu_models", lambda: "a GPU")
    config = quick_demo(folder / "serving", targets=[{"kind": "tf-serving", "version": "2.14.1-gpu"}])
    gpu.forget()
    run = api.optimize(config, backends=["tf-trt"], precisions=["fp32"], output=folder / "artifacts")
    candidate = run.candidate("tf-trt/fp32")
    assert candidate.status == "ok", candidate.reason
    assert [cost.stage for cost in candidate.stages] == ["convert", "finalize", "validate", "benchmark"]
    assert candidate.artifact
    assert candidate.artifact.built
    if gpu.pretended:
        assert "native" not in gpu.events()
    assert run.publications[0].candidate in ("original", "tf-trt/fp32"), "whichever was faster"


def test_an_engine_that_cannot_be_built_leaves_nothing(converted: Path, gpu: Gpu, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_TRT_ABORT_CUDA_ENGINE_BUILD", "true")
    with pytest.raises(PipelineError, match="TensorRT could not build TRTEngineOp_"):
        api.finalize(converted, tmp_path / "finished")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_gpu")
def test_without_a_gpu_it_says_so_and_writes_nothing(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no NVIDIA GPU"):
        api.finalize(converted, tmp_path / "finished")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_finalized_is_refused(converted: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(converted / "model/candidate.json", bare)
    with pytest.raises(InputError, match="give --reference MODEL"):
        api.finalize(bare, tmp_path / "finished")
    with pytest.raises(ConfigError, match="name the original"):
        api.finalize(converted, tmp_path / "finished", samples=SAMPLES)
    with pytest.raises(InputError, match="no converted candidate"):
        api.finalize(DEMO, tmp_path / "finished")
    with pytest.raises(OutputError, match="exists already"):
        api.finalize(converted, tmp_path)
    complete = tmp_path / "complete"
    complete.mkdir()
    (complete / "candidate.json").write_text(json.dumps({
        "backend": "onnxruntime", "precision": "fp32", "artifact": {"kind": "onnx", "files": {}}}))
    with pytest.raises(ConfigError, match="needs no finalize"):
        api.finalize(complete, tmp_path / "finished")
