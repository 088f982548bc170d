"""Whole runs of the demo: judged, published, repeated, resumed; faults are rows, not ends."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.conftest import ROOT, quick_demo
from tests.provenance import run_statement
from tests.stages import faults
from trt_pipeline.config import loader
from trt_pipeline.config.schema import Config
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import differences
from trt_pipeline.publish import versions, warm_up
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages import jobs
from trt_pipeline.stages.run import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("run")
    return base / "artifacts", base / "serving"


@pytest.fixture(scope="module")
def whole_model(folders: tuple[Path, Path]) -> RunResult:
    """The demo with all three signatures, as configs/demo.yaml has it."""
    artifacts, serving = folders
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = loader.load(Path("configs/demo.yaml"))
        quick = config.benchmark.model_copy(update={"duration_s": 0.1, "batch_sizes": (16,)})
        return run(config.model_copy(update={"serving": serving, "benchmark": quick}), output=artifacts)


def test_every_candidate_has_a_row_with_its_reason(whole_model: RunResult) -> None:
    rows = {c.name: (c.status, c.reason) for c in whole_model.candidates}
    assert rows["original"] == ("ok", "")
    assert rows["tensorflow/fp32"] == ("ok", "")
    status, reason = rows["onnxruntime/fp32"]
    assert status == "unsupported"
    assert reason == "signature classify: 'inputs' is a string; list the numeric ones under 'signatures'"


def test_tensorflow_keeps_the_whole_contract(whole_model: RunResult) -> None:
    written = Path(whole_model.folder, "candidates/tensorflow-fp32/model/model")
    original = saved_model.read_contract(ROOT / "models/demo/1")
    assert differences(original, saved_model.read_contract(written)) == []
    assert original.signatures["classify"].method_name == "tensorflow/serving/classify"
    assert original.assets and original.tables == 2


def test_tensorflow_answers_as_the_original_with_strings_and_tables(whole_model: RunResult) -> None:
    import tensorflow as tf

    written = Path(whole_model.folder, "candidates/tensorflow-fp32/model/model")
    before, after = (tf.saved_model.load(str(path)) for path in (ROOT / "models/demo/1", written))
    names = tf.constant(["seven", "zero", "no digit"])
    for loaded in (before, after):
        np.testing.assert_array_equal(loaded.signatures["lookup"](names=names)["ids"][:2], [7, 0])
    record = next(iter(tf.data.TFRecordDataset(str(ROOT / "calibration_data/demo_examples_validation.tfrecord"))))
    expected = before.signatures["classify"](inputs=record[None])
    got = after.signatures["classify"](inputs=record[None])
    np.testing.assert_array_equal(got["classes"], expected["classes"])
    np.testing.assert_allclose(got["scores"], expected["scores"], rtol=1e-5)


def test_publication_is_complete_and_says_what_it_is(whole_model: RunResult) -> None:
    published = Path(whole_model.publications[0].path or "")
    manifest = json.loads((published / versions.MANIFEST).read_text())
    assert manifest["candidate"] == whole_model.publications[0].candidate
    assert manifest["original"] == whole_model.model_digest
    assert manifest["memory_mb"]["host"] > 0
    assert manifest["added"][-1] == warm_up.RECORDS
    assert (published / warm_up.RECORDS).stat().st_size > 0
    assert (published.parents[1] / "models.config").is_file()
    original = saved_model.read_contract(ROOT / "models/demo/1")
    assert differences(original, saved_model.read_contract(published)) == []


def test_run_folder_is_as_documented(whole_model: RunResult) -> None:
    folder = Path(whole_model.folder)
    for name in ("run.json", "report.json", "report.html", "candidates/tensorflow-fp32/result.json",
                 "candidates/tensorflow-fp32/log.txt", "candidates/tensorflow-fp32/model/model/saved_model.pb"):
        assert (folder / name).stat().st_size > 0, name
    assert RunResult.model_validate_json((folder / "report.json").read_text()) == whole_model


def test_its_statement_says_what_is_so(whole_model: RunResult) -> None:
    run_statement.check(whole_model)


def test_second_run_does_no_stage_again_and_publishes_nothing_new(
        whole_model: RunResult, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts, serving = folders
    config = loader.load(Path("configs/demo.yaml"))
    quick = config.benchmark.model_copy(update={"duration_s": 0.1, "batch_sizes": (16,)})
    config = config.model_copy(update={"serving": serving, "benchmark": quick})
    started = time.monotonic()
    second = run(config, output=artifacts)
    assert time.monotonic() - started < 20
    assert all(cost.cached for c in second.candidates for cost in c.stages)
    assert [p.new for p in second.publications] == [False]
    third = run(config, output=artifacts, again=True)
    assert [(p.new, p.version) for p in third.publications] == [(True, 2)]


def test_each_fault_is_one_failed_row_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "convert", faults.convert)
    config = quick_demo(tmp_path / "serving", limits={"time_s": 25, "memory_gb": 2})
    config = Config.model_validate(config.model_dump() | {"candidates": list(faults.FAULTS)})
    result = run(config, output=tmp_path / "artifacts")
    rows = {c.name: (c.status, c.reason.split(";")[0]) for c in result.candidates}
    assert rows.pop("original") == ("ok", "")
    assert {status for status, _ in rows.values()} == {"failed"}
    assert rows["tensorflow/fp32"][1] == "convert: it aborted"
    assert rows["tensorflow/bf16"][1] == "convert: it crashed (segmentation fault)"
    assert rows["onnxruntime/fp32"][1] == "convert: it was still running after 25 s, its limit (limits.time_s)"
    assert rows["onnxruntime/int8"][1].startswith("convert: it used ")
    assert [p.candidate for p in result.publications] == ["original"]
    log = Path(result.folder, "candidates/tensorflow-fp32/log.txt").read_text()
    assert "about to abort" in log


_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.conftest import quick_demo
from trt_pipeline.stages.run import run
config = quick_demo(Path({serving!r}), candidates=["tensorflow/fp32", "onnxruntime/fp32"])
result = run(config, output=Path({artifacts!r}))
print(sum(cost.cached for candidate in result.candidates for cost in candidate.stages))
"""


def test_kill_at_random_moments_loses_nothing_finished_and_publishes_nothing_half(tmp_path: Path) -> None:
    serving, artifacts = tmp_path / "serving", tmp_path / "artifacts"
    code = _RUN.format(root=str(ROOT), serving=str(serving), artifacts=str(artifacts))
    generator = random.Random(20261123)
    kept: set[str] = set()
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(generator.uniform(1.0, 9.0))
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive, "workers outlived the run"
        now = {p.name for p in (artifacts / "demo" / "stages").glob("*-*") if not p.name.startswith("staging")}
        assert kept <= now, "a finished stage was lost"
        kept = now
        assert_published_whole(serving)
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(finished.stdout) > 0, "no stage was taken over from the killed runs"
    assert versions.existing(serving / "demo") == [1]
    assert_published_whole(serving)
    leftovers = [*serving.glob(".staging-*"), *(artifacts / "demo" / "stages").glob("staging-*")]
    assert leftovers == []


def assert_published_whole(serving: Path) -> None:
    """Every version folder that a server can see is a complete SavedModel."""
    for version in versions.existing(serving / "demo"):
        published = serving / "demo" / str(version)
        original = saved_model.read_contract(ROOT / "models/demo/1")
        assert differences(original, saved_model.read_contract(published)) == []
        assert (published / versions.MANIFEST).is_file()
