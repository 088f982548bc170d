"""Every bad input ends in one line on stderr with the documented exit status, and leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from trt_pipeline import cli

Run = Callable[..., str]
DEMO = ROOT / "models/demo/1"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command that has to fail with ``status``; returns its one line, without the program's name."""

    def call(*arguments: object, status: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["trt-pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capfd.readouterr()
        assert ended.value.code == status, captured.err
        lines = [line for line in captured.err.splitlines() if line.startswith("trt-pipeline: error: ")]
        assert len(lines) == 1, captured.err
        assert "Traceback" not in captured.err
        return lines[0].removeprefix("trt-pipeline: error: ")

    return call


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the model is inspected once."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def optimize(run: Run, tmp_path: Path, artifacts: Path) -> Iterator[Run]:
    """`optimize` of the demo's image signature with the config changed; nothing may be published."""
    serving = tmp_path / "serving"

    def call(changes: dict[str, Any] | None = None, *options: object, status: int = 2, **replaced: Any) -> str:
        values: dict[str, Any] = {
            "name": "demo", "model": str(DEMO), "signatures": ["serving_default"],
            "samples": {"validation": str(ROOT / "calibration_data/demo_validation.npz")},
            "candidates": ["tensorflow/fp32"], "serving": str(serving),
            "benchmark": {"batch_sizes": [1], "duration_s": 0.1}}
        config = tmp_path / "demo.yaml"
        config.write_text(yaml.safe_dump(values | (changes or {}), sort_keys=False))
        return run("optimize", config, "--output", artifacts, *options, status=status)

    yield call
    assert not serving.exists() or list(serving.iterdir()) == []


# --- the model

def test_no_such_model(run: Run) -> None:
    assert run("inspect", "models/nothing/1") == (
        "no model at models/nothing/1: check the path, or make it first (see models/README.md)")


def test_a_file_is_no_saved_model(run: Run) -> None:
    assert run("inspect", "README.md") == (
        "README.md is not a SavedModel: it is a file; name the folder that holds saved_model.pb")


def test_a_folder_without_saved_model_pb(run: Run, tmp_path: Path) -> None:
    assert run("inspect", tmp_path) == f"{tmp_path} is not a SavedModel: it has no saved_model.pb"


def test_the_base_folder_of_versions_names_the_newest(run: Run) -> None:
    assert run("inspect", "models/demo") == (
        "models/demo is not a SavedModel: it has no saved_model.pb; its version 1 is one: use models/demo/1")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"not a protobuf",
                                    lambda data: b"", lambda data: os.urandom(4096)])
def test_truncated_or_corrupt_saved_model_pb(run: Run, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    broken = shutil.copytree(DEMO, tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes(damage((DEMO / "saved_model.pb").read_bytes()))
    assert run("inspect", broken) == (f"{broken / 'saved_model.pb'} is truncated or corrupt: it does not parse as a "
                                      "SavedModel; export or copy the model again")


def test_variables_missing(run: Run, tmp_path: Path) -> None:
    broken = shutil.copytree(DEMO, tmp_path / "broken")
    (broken / "variables" / "variables.index").unlink()
    assert run("inspect", broken) == (f"{broken} lacks variables/variables.index: the model has variables; "
                                      "copy the whole folder")


def test_a_variables_shard_missing(run: Run, tmp_path: Path) -> None:
    broken = shutil.copytree(DEMO, tmp_path / "broken")
    (broken / "variables" / "variables.data-00000-of-00001").unlink()
    assert run("inspect", broken) == f"{broken} has 0 of 1 variables.data files: copy the whole folder"


def test_optimize_of_a_corrupt_model(optimize: Run, tmp_path: Path) -> None:
    broken = shutil.copytree(DEMO, tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes((DEMO / "saved_model.pb").read_bytes()[:1000])
    assert optimize({"model": str(broken)}) == (
        f"{broken / 'saved_model.pb'} is truncated or corrupt: it does not parse as a SavedModel; "
        "export or copy the model again")


def test_optimize_of_a_model_whose_variables_are_garbage(optimize: Run, tmp_path: Path) -> None:
    broken = shutil.copytree(DEMO, tmp_path / "broken")
    (broken / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    message = optimize({"model": str(broken)})
    assert message.startswith("the original does not run on its samples: ")


def test_unknown_tags(run: Run) -> None:
    assert run("inspect", DEMO, "--tags", "serve,gpu") == (
        f"{DEMO} has no graph tagged serve,gpu: it has serve; set 'tags' to one of these")


def test_unknown_signature(optimize: Run) -> None:
    assert optimize({"signatures": ["serving_defalt"]}) == (
        "no signature 'serving_defalt' in the model: it has serving_default, classify, lookup; "
        "did you mean 'serving_default'?")


# --- the configuration and options

def test_unknown_configuration(run: Run) -> None:
    assert run("optimize", "enk") == (
        "no configuration 'enk': configs has demo, enko, iris, koen; did you mean 'enko'?; "
        "'trt-pipeline init MODEL --name NAME' writes one")


def test_unknown_backend(optimize: Run) -> None:
    assert optimize(None, "--backend", "tensorflo") == (
        "no backend 'tensorflo': there are original, tensorflow, onnxruntime, tf-trt, tensorrt; "
        "did you mean 'tensorflow'?")


def test_unknown_precision(optimize: Run) -> None:
    assert optimize(None, "--precision", "int9") == (
        "no precision 'int9': there are bf16, fp16, fp32, int8, native, tf32; did you mean 'int8'?")


def test_unknown_backend_in_the_config(optimize: Run, tmp_path: Path) -> None:
    assert optimize({"candidates": ["tensorflow/fp32", "onnxruntim/fp32"]}) == (
        f"{tmp_path / 'demo.yaml'}:9: candidates.1: no backend 'onnxruntim': there are original, tensorflow, "
        "onnxruntime, tf-trt, tensorrt; did you mean 'onnxruntime'?")


def test_unknown_precision_in_the_config(optimize: Run, tmp_path: Path) -> None:
    assert optimize({"candidates": ["tensorflow/fp23"]}) == (
        f"{tmp_path / 'demo.yaml'}:8: candidates.0: backend tensorflow has no precision 'fp23': it has fp32, bf16, "
        "int8; did you mean 'fp32'?")


def test_unknown_key_names_the_line_and_the_nearest(optimize: Run, tmp_path: Path) -> None:
    assert optimize({"benchmark": {"batch_size": [1]}}) == (
        f"{tmp_path / 'demo.yaml'}:11: unknown key 'benchmark.batch_size'; did you mean 'batch_sizes'?")


def test_not_yaml(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("name: demo\nmodel: [unclosed\n")
    assert run("optimize", config).startswith(f"{config}:3: not YAML: ")


def test_padding_of_an_input_that_is_not_there(optimize: Run) -> None:
    assert optimize({"padding": {"imgae": 0}}) == (
        "padding names the input 'imgae', which no signature has: there are image")


def test_a_target_that_can_load_nothing_is_refused_before_work(optimize: Run, tmp_path: Path) -> None:
    assert optimize({"targets": [{"kind": "triton", "version": "25.06"}]}) == (
        "target triton 25.06 loads onnx, tensorrt-plan and no candidate makes that: add onnxruntime/fp32 to the "
        "candidates or name a version up to 25.02")


# --- the samples

def _samples(tmp_path: Path, **arrays: np.ndarray) -> dict[str, Any]:
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    return {"samples": {"validation": str(path)}}


def _image(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"img": _image(4, 8, 8, 1)}, "input 'image' is missing: the samples have img"),
    ({"image": np.zeros((4, 8, 8, 1), np.float64)},
     "input 'image' has dtype float64, the model takes float32: convert the samples"),
    ({"image": _image(4, 8, 8)}, "input 'image' has rank 3, the model takes rank 4 float32 (-1,8,8,1)"),
    ({"image": _image(4, 8, 9, 1)}, "input 'image' has 9 on axis 2, the model takes 8 float32 (-1,8,8,1)"),
    ({"image": np.full((4, 8, 8, 1), [[[[1]]], [[[1]]], [[[np.nan]]], [[[1]]]], np.float32)},
     "input 'image' holds NaN in sample 2: clean the samples"),
    ({"image": _image(0, 8, 8, 1)}, "input 'image' holds zero samples: the leading axis is the batch axis"),
])
def test_samples_that_do_not_fit(optimize: Run, tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    assert optimize(_samples(tmp_path, **arrays)) == f"{tmp_path / 'samples.npz'}: signature serving_default: {message}"


def test_no_such_samples(optimize: Run) -> None:
    assert optimize({"samples": {"validation": "nowhere.npz"}}) == (
        "no samples at nowhere.npz: check 'samples' in the config")


def test_a_signature_without_samples(optimize: Run) -> None:
    source = {"serving_default": str(ROOT / "calibration_data/demo_validation.npz")}
    assert optimize({"samples": {"validation": source}, "signatures": ["serving_default", "lookup"]}) == (
        "signature lookup has no samples: add it under samples.validation, or leave the signature out with "
        "'signatures'")


# --- where results go

def test_output_folder_that_cannot_be_written(optimize: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert optimize(None, "--output", tmp_path / "file" / "below") == (
        f"cannot write to {tmp_path / 'file' / 'below' / 'demo'}: Not a directory; choose another folder or mend its "
        "permissions")


def test_two_runs_of_one_model_at_once(optimize: Run, artifacts: Path) -> None:
    code = ("import sys, time; from pathlib import Path; from trt_pipeline.stages import lock\n"
            "with lock.exclusive(Path(sys.argv[1]), 'demo'): print('held', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code, str(artifacts / "demo")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            assert optimize() == (f"demo: another run (process {holder.pid}) is at work in {artifacts / 'demo'}; "
                                  "wait for it or use --output")
        finally:
            holder.kill()


@pytest.mark.slow
def test_disk_full_while_publishing(run: Run, optimize: Run, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(small)], check=False,
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        assert optimize({"serving": str(small)}) == (
            f"disk full while publishing to {small}: free some space and run again; nothing half-written is left")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- the other commands

def test_run_with_an_expression_that_is_no_literal(run: Run) -> None:
    message = run("run", "models/enko/1", "--signature", "translate", "--input-expr", "input=__import__('os')")
    assert message == "--input-expr input: '__import__('os')' is not a Python literal such as [[1, 2, 3]]"


def test_run_of_an_unknown_signature(run: Run) -> None:
    assert run("run", "models/enko/1", "--signature", "transalte", "--input-expr", "input=[[1]]") == (
        "no signature 'transalte' in the model: it has translate; did you mean 'translate'?")


def test_run_without_an_input(run: Run) -> None:
    assert run("run", "models/enko/1", "--signature", "translate") == (
        "signature translate: input 'input' is missing; it takes input")


def test_run_with_a_shape_that_does_not_fit(run: Run) -> None:
    assert run("run", "models/enko/1", "--signature", "translate", "--input-expr", "input=[1, 2]") == (
        "--input-expr input: shape [2] does not fit int64 (-1,-1)")


def test_convert_into_a_folder_that_exists(run: Run, tmp_path: Path) -> None:
    assert run("convert", DEMO, "--backend", "tensorflow", "--precision", "fp32", "-o", tmp_path) == (
        f"{tmp_path} exists already: name a new folder")


def test_convert_under_what_is_no_interpreter(run: Run, tmp_path: Path) -> None:
    assert run("convert", DEMO, "--backend", "tensorflow", "--precision", "fp32", "-o", tmp_path / "out",
               "--python", "README.md") == (
        "README.md is no Python interpreter: name an executable file such as /opt/venv/bin/python")


def test_convert_under_an_interpreter_that_lacks_packages(run: Run, bare_python: Path, tmp_path: Path) -> None:
    assert run("convert", DEMO, "--backend", "tensorflow", "--precision", "fp32", "-o", tmp_path / "out",
               "--python", bare_python, status=3) == (
        f"{bare_python} lacks tensorflow, numpy, pydantic: {bare_python} -m pip install tensorflow numpy pydantic")
    assert not (tmp_path / "out").exists()


def test_convert_of_what_the_backend_cannot_take_leaves_nothing(run: Run, tmp_path: Path) -> None:
    assert run("convert", DEMO, "--backend", "onnxruntime", "--precision", "fp32", "-o", tmp_path / "out") == (
        "signature classify: 'inputs' is a string; list the numeric ones under 'signatures'")
    assert not (tmp_path / "out").exists()


def test_validate_of_another_model_is_a_missed_gate(run: Run, tmp_path: Path) -> None:
    """Two translators have one contract; the gate tells them apart."""
    np.savez(tmp_path / "few.npz", input=np.load(ROOT / "calibration_data/enko_validation.npz")["input"][:4])
    message = run("validate", "models/enko/1", "models/koen/1", "--samples", tmp_path / "few.npz", "--pad", "input=0",
                  status=1)
    assert message.startswith("rejected: translate.outputs: ")


def test_tolerance_that_is_no_bound(run: Run) -> None:
    assert run("validate", DEMO, DEMO, "--samples", "x.npz", "--tolerance", "logits={close: {rtoll: 1}}") == (
        "--tolerance 'logits={close: {rtoll: 1}}': write OUTPUT={close: {rtol: 1e-3}}, OUTPUT={exact: true} or "
        "another bound of the config's gate")


def test_report_of_a_folder_that_is_no_run(run: Run, tmp_path: Path) -> None:
    assert run("report", tmp_path) == f"{tmp_path} is no finished run: it has no report.json"


def test_init_does_not_overwrite(run: Run) -> None:
    assert run("init", DEMO, "--name", "enko") == "configs/enko.yaml exists already: name another, or edit it"


def test_interrupted_run_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "demo.yaml"
    config.write_text((ROOT / "configs/demo.yaml").read_text() + f"serving: {tmp_path / 'serving'}\n")
    process = subprocess.Popen([sys.executable, "-m", "trt_pipeline", "optimize", str(config), "--output",
                                str(tmp_path / "artifacts")], stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(2)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == ("trt-pipeline: error: interrupted; what was finished is kept and the next run "
                                       "goes on from there")
    assert "Traceback" not in errors
