"""The workflows: valid, and every command in them is run here, in order, in a checkout of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree

from tests.conftest import ROOT
from tests.tftrt_shim.build import HERE as SHIM
from tests.tftrt_shim.build import LIBRARIES, build
from trt_pipeline.ci import baseline

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
SCHEMA = etree.XMLSchema(file=str(Path(__file__).parent / "schemas/junit.xsd"))
MODEL = {
    "name": "digits", "model": "models/demo/1", "signatures": ["serving_default"],
    "samples": {"validation": "calibration_data/demo_validation.npz"}, "candidates": ["tf-trt/fp16"],
    "benchmark": {"batch_sizes": [1], "duration_s": 0.1}, "max_batch_size": 4}
GATE = ["parity <= 0.01", "tf-trt/fp16: ok"]


def steps(workflow: str, job: str) -> list[dict[str, Any]]:
    """The steps of a job that run a command."""
    document = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())
    return [step for step in document["jobs"][job]["steps"] if "run" in step]


class Checkout:
    """A checkout as a runner has it: the repository's files, and a configuration of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.summary = folder, folder.with_suffix(".md")
        folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy2(ROOT / name, folder / name)
        for name in ("models", "calibration_data"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(BIN.parent)
        (folder / "configs").mkdir()
        (folder / "configs/digits.yaml").write_text(yaml.safe_dump(MODEL))
        (folder / "gate.yaml").write_text(yaml.safe_dump(GATE))

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """``command`` as the runner starts it."""
        known = {"MODEL": "digits", "GATE": "gate.yaml", "VENV": ".venv", "GITHUB_STEP_SUMMARY": str(self.summary)}
        if command.startswith("make install"):
            # What it makes is what these tests run in: only whether there is anything left of it to do.
            known["MAKEFLAGS"] = "q"
        return subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command], cwd=self.folder,
                              env=os.environ | known | variables, capture_output=True, text=True, check=False,
                              timeout=300)


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A runner without a GPU, after the job `cpu`."""
    checkout = Checkout(tmp_path_factory.mktemp("hosted") / "checkout")
    for step in steps("optimize.yml", "cpu"):
        done = checkout.run(step["run"], CUDA_VISIBLE_DEVICES="-1")
        assert done.returncode == 0, f"{step['run']}: {done.stderr}{done.stdout}"
    return checkout


@pytest.fixture
def owned(hosted: Checkout, tmp_path: Path) -> Checkout:
    """Another runner, to which the run was brought as artefacts are: no links, no permissions, no kept stages."""
    checkout = Checkout(tmp_path / "checkout")
    shutil.copytree(hosted.folder / "artifacts/digits", checkout.folder / "artifacts/digits",
                    copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("stages", ".*"))
    return checkout


def test_workflows_keep_githubs_schema() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "optimize.yml"]
    checked = subprocess.run([BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS],
                             capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_job_is_one_that_is_run_here() -> None:
    """A new job or workflow needs its test."""
    jobs = {(path.name, job) for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"]}
    assert jobs == {("ci.yml", "test"), ("optimize.yml", "cpu"), ("optimize.yml", "gpu")}
    # .ci/run is what runs this test.
    assert [step["run"] for step in steps("ci.yml", "test")] == [".ci/run"]
    assert re.findall(r"^[^#\n].*make (\S+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE) in ([], ["test"])
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_commands_are_of_make_and_of_the_pipeline_alone() -> None:
    """So that they are the same in any other CI system, and nothing of what is tested is in a workflow."""
    for step in (step for job in ("cpu", "gpu") for step in steps("optimize.yml", job)):
        assert re.match(r"(make|\.venv/bin/trt-pipeline|\"\$VENV/bin/trt-pipeline\") ", step["run"]), step["run"]
        assert not set(step["run"]) & set("|;&`<>"), step["run"]
        assert "${{" not in step["run"], "what a caller gives reaches a shell as a variable only"


@pytest.mark.slow
def test_the_cpu_job(hosted: Checkout) -> None:
    run, = (hosted.folder / "artifacts/digits").glob("*/report.json")
    report = json.loads(run.read_text())
    assert {one["name"]: one["status"] for one in report["candidates"]} == {
        "original": "ok", "tf-trt/fp16": "pending-gpu"}
    assert report["gate"]["passed"]
    assert (hosted.folder / "serving/digits/1/saved_model.pb").is_file()
    summary = hosted.summary.read_text()
    assert summary.startswith("## digits: ✅ the gate is passed, 1 pending")
    assert f"trt-pipeline finalize {run.parent.relative_to(hosted.folder)} -o finalized/digits" in summary
    junit = etree.parse(hosted.folder / "build/junit-cpu.xml")
    SCHEMA.assertValid(junit)
    assert not junit.findall(".//failure")
    assert len(baseline.read(hosted.folder / "baseline/baseline.json").models["digits"]) == 1


@pytest.mark.slow
def test_a_missed_gate_ends_the_cpu_job_before_anything_is_published(hosted: Checkout) -> None:
    command = steps("optimize.yml", "cpu")[-1]["run"]
    served = sorted((hosted.folder / "serving/digits").iterdir())
    done = hosted.run(f"{command} --republish", GATE="speedup_latency_p50@1 >= 1000", CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("trt-pipeline: error: digits missed the gate: ")
    assert sorted((hosted.folder / "serving/digits").iterdir()) == served
    assert etree.parse(hosted.folder / "build/junit-cpu.xml").findall(".//failure")
    assert "## digits: ❌ the gate was missed" in hosted.summary.read_text()


@pytest.mark.slow
def test_the_gpu_job_on_a_runner_without_one(owned: Checkout) -> None:
    *before, finalize = steps("optimize.yml", "gpu")
    assert all(owned.run(step["run"]).returncode == 0 for step in before)
    done = owned.run(finalize["run"], CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 3, done.stderr
    told = "trt-pipeline: error: tf-trt cannot be finalized here: TensorFlow sees no NVIDIA GPU"
    assert done.stderr.splitlines()[-1].startswith(told)
    assert not (owned.folder / "finalized/digits").exists()


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def test_the_gpu_job(owned: Checkout, gpu: str, tmp_path: Path) -> None:
    *_, finalize = steps("optimize.yml", "gpu")
    variables = {}
    if gpu == "pretended":
        paths = [str(SHIM / "pretend"), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {"TRT_SHIM_LIBRARY": str(build(Path(sys.executable), LIBRARIES)),
                     "TRT_SHIM_LOG": str(tmp_path / "events.txt"), "PYTHONPATH": os.pathsep.join(paths)}
    done = owned.run(finalize["run"], **variables)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    report = json.loads((owned.folder / "finalized/digits/report.json").read_text())
    fp16 = next(one for one in report["candidates"] if one["name"] == "tf-trt/fp16")
    assert fp16["status"] == "ok"
    assert fp16["benchmark"]
    assert (owned.folder / "finalized/digits/candidates/tf-trt-fp16/model/saved_model.pb").is_file()
    assert report["gate"]["passed"]
    assert {one["requirement"]: one["standing"] for one in report["gate"]["outcomes"]} == {
        "parity <= 0.01": "met", "ok": "met"}
    assert owned.summary.read_text().startswith("## digits: ✅ the gate is passed\n")
    SCHEMA.assertValid(etree.parse(owned.folder / "build/junit-gpu.xml"))
    assert len(baseline.read(owned.folder / "baseline/baseline.json").models["digits"]) == 1


def test_other_ci_systems_are_shown_the_same_commands() -> None:
    text = (ROOT / "docs/ci.md").read_text()
    blocks = dict(re.findall(r"## (GitLab|Jenkins)\n\n```\w+\n(.*?)```", text, re.DOTALL))
    gitlab = yaml.safe_load(blocks["GitLab"])
    for job in ("cpu", "gpu"):
        wanted = [_plain(step["run"]) for step in steps("optimize.yml", job)]
        assert [_plain(command) for command in gitlab[job]["script"]] == wanted
    assert [_plain(command) for command in re.findall(r"sh '(.*)'", blocks["Jenkins"])] == [
        _plain(step["run"]) for step in steps("optimize.yml", "cpu")]


def test_gitlabs_file_keeps_its_schema(tmp_path: Path) -> None:
    text = (ROOT / "docs/ci.md").read_text()
    found = re.search(r"## GitLab\n\n```yaml\n(.*?)```", text, re.DOTALL)
    assert found
    (tmp_path / "gitlab.yml").write_text(found[1])
    checked = subprocess.run([BIN / "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform",
                              "gitlab-ci", tmp_path / "gitlab.yml"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def _plain(command: str) -> str:
    """``command`` with the page of each system's job called the same."""
    return command.replace('"$GITHUB_STEP_SUMMARY"', "build/summary.md").strip()
