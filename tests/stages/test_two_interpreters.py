"""One run, two TensorFlows: the run's own interpreter, and another for the workers of one backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, quick_demo
from trt_pipeline import api
from trt_pipeline.backends.base import Artifact
from trt_pipeline.candidate import Candidate, describe
from trt_pipeline.config.candidates import CandidateSpec
from trt_pipeline.config.schema import Config
from trt_pipeline.errors import ModelError, PipelineError
from trt_pipeline.interpreter import Interpreter
from trt_pipeline.model.contract import Contract
from trt_pipeline.parity.reference import Reference
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages import jobs, plan, worker
from trt_pipeline.stages.cache import StageCache
from trt_pipeline.stages.execute import Executor
from trt_pipeline.stages.judging import Judging, _Row
from trt_pipeline.stages.observer import Silent
from trt_pipeline.stages.plan import SampleSet
from trt_pipeline.stages.study import Study
from trt_pipeline.stages.worker import Outcome, WorkerFailed

EMPTY = Contract(tags=("serve",), signatures={}, assets={}, extra_assets={}, tables=0, variable_bytes=0,
                 tensorflow_version="")


@pytest.mark.slow
def test_a_run_with_a_new_tensorflow_has_tf_trt_from_an_old_one(tensorflow_221: Path, tmp_path: Path) -> None:
    """TF-TRT ends with TensorFlow 2.17: this run has 2.21, and the workers of tf-trt have these tests' own."""
    config = quick_demo(tmp_path / "serving", candidates=["tf-trt/fp32"])
    config_file = tmp_path / "demo.yaml"
    config_file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True)
                                          | {"backends": {"tf-trt": {"python": sys.executable}}}))
    ended = subprocess.run(
        [str(tensorflow_221), "-m", "trt_pipeline", "optimize", str(config_file), "--output", str(tmp_path), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    result = RunResult.model_validate_json(ended.stdout)
    assert result.environment["tensorflow"].startswith("2.21.")
    original, candidate = result.candidates
    assert (original.status, original.interpreter) == ("ok", None)
    assert (candidate.name, candidate.status) == ("tf-trt/fp32", "pending-gpu"), candidate.reason
    assert candidate.verdict
    assert candidate.verdict.passed
    assert candidate.interpreter
    assert candidate.interpreter.python == Path(sys.executable)
    assert candidate.interpreter.environment["tensorflow"] == "2.14.1"
    folder = Path(result.folder, "candidates/tf-trt-fp32")
    assert json.loads((folder / "result.json").read_text())["interpreter"]["python"] == sys.executable
    assert json.loads((folder / "model/candidate.json").read_text())["python"] == sys.executable
    assert b"2.14.1" in (folder / "model/model/saved_model.pb").read_bytes()
    assert "tensorflow 2.14.1" in Path(result.folder, "report.html").read_text()


def test_other_libraries_there_make_a_fresh_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick_demo(tmp_path / "serving")
    given: list[Any] = []

    def work(*arguments: Any, **_: Any) -> Outcome:
        given.append(arguments[-1])
        return Outcome(value=1, seconds=0, peak_memory_mb=0)

    monkeypatch.setattr(worker, "run", work)
    executor = Executor(config, plan.check_model(config), StageCache(tmp_path / "stages"), False, Silent())

    def cached(other: Interpreter | None) -> bool:
        return executor.stage("tensorflow/fp32", "convert", jobs.convert, {}, {}, other)[1].cached

    old, new = (Interpreter(python=Path("/opt/python"), environment={"tensorflow": v}) for v in ("2.17.0", "2.17.1"))
    assert [cached(other) for other in (None, old, old, new, new, None)] == [False, False, True, False, True, True]
    assert given == [None, old.python, new.python]


def test_options_reach_the_conversion_and_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def work(function: Any, arguments: dict[str, Any], *_: Any) -> Outcome:
        seen.append(arguments["request"]["options"])
        return Outcome(value={"kind": "onnx", "files": {}}, seconds=0, peak_memory_mb=0)

    monkeypatch.setattr(worker, "run", work)
    for options in ({}, {"segment": 3}, {"segment": 3}, {"segment": 4}):
        config = Config.model_validate(quick_demo(tmp_path / "serving").model_dump()
                                       | {"backends": {"tensorflow": {"options": options}}})
        study = Study(config=config, chosen=(), model_digest=plan.check_model(config), contract=EMPTY,
                      signatures=("serving_default",), validation=SampleSet(folders={}, digest=""), calibration=None,
                      reference=Reference(cases=(), outputs={}), reference_folder=tmp_path)
        executor = Executor(config, study.model_digest, StageCache(tmp_path / "stages"), False, Silent())
        own = {"backend": "tensorflow", "precision": "fp32", "label": "own", "options": {"b": 1}}
        for spec in ("tensorflow/fp32", own):
            Judging(study, executor)._convert(_Row(CandidateSpec.model_validate(spec)), {})
    # The third configuration's are kept; a candidate's own options come on top of the backend's.
    assert seen == [{}, {"b": 1}, {"segment": 3}, {"segment": 3, "b": 1}, {"segment": 4}, {"segment": 4, "b": 1}]


def test_a_candidate_is_run_by_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"refer": {"cases": [], "outputs": {}}, "measure_noise": {},
               "validate": {"passed": True, "reason": "", "outputs": []}}
    under: dict[str, Any] = {}

    def work(function: Any, arguments: dict[str, Any], *_: Any, python: Path | None = None) -> Outcome:
        name = function.__name__
        under[name] = python
        if name == "benchmark":
            under.update({side: arguments[side]["python"] for side in ("original", "candidate")})
            raise WorkerFailed("not asked to")
        return Outcome(value=answers[name], seconds=0, peak_memory_mb=0)

    monkeypatch.setattr(worker, "run", work)
    model, samples = ROOT / "models/demo/1", str(ROOT / "calibration_data/demo_validation.npz")
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    made = Candidate(backend="tensorflow", precision="fp32", folder=tmp_path, python=python,
                     artifact=Artifact(kind="savedmodel", files={"serving_default": "model"}))
    describe(tmp_path, made)
    api.validate(model, tmp_path, samples, signatures=["serving_default"])
    with pytest.raises(PipelineError, match="not asked to"):
        api.benchmark(model, tmp_path, samples, signatures=["serving_default"])
    assert under == {"refer": None, "measure_noise": None, "validate": python, "benchmark": None, "original": None,
                     "candidate": str(python)}
    python.unlink()
    with pytest.raises(ModelError, match=f"was made with {python}, which is not there: convert the model again"):
        api.validate(model, tmp_path, samples, signatures=["serving_default"])
