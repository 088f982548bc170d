"""`calibrate`, and `convert` with its ranges file or a bad one: one line says what is wrong, nothing stays."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.calibrated import calibrated
from tests.conftest import ROOT
from trt_pipeline import api, cli, digest
from trt_pipeline.calibration import calibrate as calibration
from trt_pipeline.calibration import ranges

Cli = Callable[..., tuple[int, str]]
DEMO, IMAGE = ROOT / "models/demo/1", ("--signature", "serving_default")
SAMPLES = ROOT / "calibration_data/demo.npz"
INT8 = ("--precision", "int8", *IMAGE)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command; returns its status, and its output or the line that it failed with."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["trt-pipeline", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = capfd.readouterr()
        if status == 0:
            return 0, captured.out.strip()
        assert "Traceback" not in captured.err
        [line] = [line for line in captured.err.splitlines() if line.startswith("trt-pipeline: error: ")]
        return status, line.removeprefix("trt-pipeline: error: ")

    return call


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.asarray(np.load(SAMPLES)["image"][:6])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> dict[str, Any]:
    """The demo's ranges, as JSON."""
    file = tmp_path_factory.mktemp("measured") / "ranges.json"
    return dict(json.loads(calibrated(DEMO, {"serving_default": {"image": images}}, file).read_text()))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process: what is tested is what surrounds them."""

    def call(function: Any, arguments: dict[str, Any], limits: Any, log: Path, progress: Any, python: Any) -> Any:
        return SimpleNamespace(value=function(**arguments, progress=progress))

    monkeypatch.setattr(api.worker, "run", call)


# --- calibrate

def test_writes_a_file_that_people_and_programs_read(run: Cli, tmp_path: Path) -> None:
    file = tmp_path / "new" / "ranges.json"
    status, told = run("calibrate", DEMO, *IMAGE, "--samples", SAMPLES, "--most", 5, "-o", file)
    assert (status, told) == (0, f"{file}: serving_default: 9 ranges by minmax, 13 extents, 5 samples")
    assert [path.name for path in file.parent.iterdir()] == ["ranges.json"]
    known = ranges.read(file, digest.of_folder(DEMO))
    assert known.count == 5 and known.signatures["serving_default"].of("image:0") == (0.0, 1.0)
    tensors = [line for line in file.read_text().splitlines() if line.startswith('    "')]
    assert len(tensors) == 9 + 13 and all('": [' in line for line in tensors), "one tensor a line"


@pytest.mark.usefixtures("here")
def test_methods_say_which_they_are_and_clip_only(run: Cli, tmp_path: Path, measured: dict[str, Any]) -> None:
    whole = measured["signatures"]["serving_default"]["extents"]
    for given, name in ((["percentile", "--percentile", "90"], "percentile 90"), (["entropy"], "entropy"),
                        (["mse"], "mse")):
        file = tmp_path / f"{given[0]}.json"
        status, told = run("calibrate", DEMO, *IMAGE, "--samples", SAMPLES, "--most", 6, "-o", file,
                           "--method", *given)
        assert status == 0 and f"by {name}, " in told
        known = json.loads(file.read_text())
        assert known["method"] == name and known["signatures"]["serving_default"]["extents"] == whole
        found = {tensor: bounds for tensor, bounds in known["signatures"]["serving_default"]["ranges"].items()
                 if tensor in whole}
        assert found and all(whole[tensor][0] <= low <= high <= whole[tensor][1] + 1e-6
                             for tensor, (low, high) in found.items())
        assert name != "percentile 90" or any(bounds != whole[tensor] for tensor, bounds in found.items())


def test_unknown_method(run: Cli, tmp_path: Path) -> None:
    assert run("calibrate", DEMO, "--samples", SAMPLES, "-o", tmp_path / "x.json", "--method", "entropie") == (
        2, "no method 'entropie': there are minmax, percentile, entropy, mse; did you mean 'entropy'?")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arrays", "message"), [
    ({"image": np.zeros((4, 8, 9, 1), np.float32)}, "input 'image' has 9 on axis 2, the model takes 8"),
    ({"img": np.zeros((4, 8, 8, 1), np.float32)}, "input 'image' is missing: the samples have img"),
    ({"image": np.zeros((0, 8, 8, 1), np.float32)}, "input 'image' holds zero samples"),
])
def test_samples_that_do_not_fit(run: Cli, tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, **arrays)
    status, told = run("calibrate", DEMO, *IMAGE, "--samples", samples, "-o", tmp_path / "new" / "ranges.json")
    assert status == 2 and told.startswith(f"{samples}: signature serving_default: {message}")
    assert list(tmp_path.iterdir()) == [samples], "not even a folder"


@pytest.mark.usefixtures("here")
def test_a_sample_that_the_model_makes_infinities_of_is_named(run: Cli, tmp_path: Path, images: np.ndarray) -> None:
    """The last one, an outlier that passes every check of its own."""
    outlier = images.copy()
    outlier[-1] = 3e38
    np.savez(tmp_path / "samples.npz", image=outlier)
    status, told = run("calibrate", DEMO, *IMAGE, "--samples", tmp_path / "samples.npz", "-o", tmp_path / "x.json")
    assert status == 2 and told == ("signature serving_default: sample 5: StatefulPartitionedCall/Conv2D:0 holds NaN "
                                    "or infinity: leave the sample out, or mend the model")
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]


def test_output_where_nothing_can_be_written(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before the model has run."""
    monkeypatch.setattr(api.worker, "run", lambda *arguments: pytest.fail("the model ran"))
    (tmp_path / "file").write_text("")
    for output, message in ((tmp_path / "file" / "ranges.json", f"cannot write to {tmp_path / 'file'}"),
                            (tmp_path, f"{tmp_path} is a folder: name a file"),
                            (Path("/proc/none/ranges.json"), "cannot write to /proc/none"),
                            (Path("/proc/ranges.json"), "cannot write")):
        status, told = run("calibrate", DEMO, *IMAGE, "--samples", SAMPLES, "-o", output)
        assert status == 2 and told.startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("here")
def test_goes_on_where_it_was_interrupted_unless_told_to_begin_anew(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    file = tmp_path / "ranges.json"

    def calibrate(fresh: bool = False, stop_at: int = 99) -> list[int]:
        seen: list[int] = []

        def progress(done: int, total: int) -> None:
            seen.append(done)
            if done >= stop_at:
                raise KeyboardInterrupt

        api.calibrate(DEMO, str(SAMPLES), file, signatures=["serving_default"], most=12, fresh=fresh,
                      progress=progress)
        return seen

    def interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            calibrate(stop_at=8)
        assert [path.name for path in tmp_path.iterdir()] == ["ranges.json.partial"]

    interrupt()
    resumed = calibrate()
    assert resumed[0] > 0 and resumed[-1] == 12
    at_once = file.read_text()
    file.unlink()
    interrupt()
    assert calibrate(fresh=True)[0] == 0
    assert file.read_text() == at_once
    file.with_name("ranges.json.partial").write_bytes(b"garbage")
    assert calibrate()[0] == 0, "what cannot be read is no start"
    assert file.read_text() == at_once and [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


# --- convert by a ranges file

def _inverted(content: dict[str, Any]) -> str:
    changed = json.loads(json.dumps(content))
    changed["signatures"]["serving_default"]["ranges"]["image:0"] = [2, -1]
    return json.dumps(changed)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("backend", ["onnxruntime", "tensorflow", "tf-trt"])
def test_a_ranges_file_that_is_none_of_this_model(run: Cli, tmp_path: Path, measured: dict[str, Any],
                                                  backend: str) -> None:
    contents = {"other": (json.dumps(measured | {"model_digest": "abc"}), "was made for another model"),
                "inverted": (_inverted(measured), "the range of image:0 is [2.0, -1.0]"),
                "garbage": ("{ not json", "is no ranges file: make one with trt-pipeline calibrate"),
                "none": (None, "cannot be read: No such file or directory")}
    for name, (content, message) in contents.items():
        file = tmp_path / f"{name}.json"
        if content is not None:
            file.write_text(content)
        status, told = run("convert", DEMO, *INT8, "--backend", backend, "--ranges", file, "-o", tmp_path / "out")
        assert status == 2 and str(file) in told and message in told
        assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("content", [None, "{ not json"])
def test_a_ranges_file_is_read_where_it_is_of_no_use_too(run: Cli, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ranges.json"
    if content is not None:
        file.write_text(content)
    status, told = run("convert", DEMO, "--backend", "tensorflow", "--precision", "fp32", *IMAGE, "--ranges", file,
                       "-o", tmp_path / "out")
    assert status == 2 and str(file) in told
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("backend", ["onnxruntime", "tensorflow", "tf-trt"])
def test_ranges_of_other_signatures_only(run: Cli, tmp_path: Path, measured: dict[str, Any], backend: str) -> None:
    """A refusal that comes late leaves no folder that would be in the way of the next try."""
    file = tmp_path / "ranges.json"
    file.write_text(json.dumps(measured | {"signatures": {}}))
    status, told = run("convert", DEMO, *INT8, "--backend", backend, "--ranges", file, "-o", tmp_path / "out")
    assert status == 2 and "serving_default" in told and "calibrat" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_an_operation_whose_ranges_are_missing_stays_in_float32(tmp_path: Path, measured: dict[str, Any],
                                                                images: np.ndarray) -> None:
    lost = "StatefulPartitionedCall/Relu:0"  # what the second convolution reads
    changed = json.loads(json.dumps(measured))
    for table in ("ranges", "extents"):
        del changed["signatures"]["serving_default"][table][lost]
    file = tmp_path / "ranges.json"
    file.write_text(json.dumps(changed))
    for backend in ("onnxruntime", "tf-trt"):
        made = api.convert(DEMO, backend, "int8", tmp_path / backend, ranges=file, signatures=["serving_default"])
        low = made.artifact.low_precision["serving_default"]
        assert "StatefulPartitionedCall/Conv2D" in low.nodes
        assert "range" in low.kept["StatefulPartitionedCall/Conv2D_1"]
    np.savez(tmp_path / "samples.npz", image=images)
    verdict = api.validate(DEMO, tmp_path / "onnxruntime", str(tmp_path / "samples.npz"),
                           signatures=["serving_default"])
    assert verdict.passed and verdict.error, verdict.reason


@pytest.mark.usefixtures("here")
def test_one_sample_is_enough(run: Cli, tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "one.npz", image=images[:1])
    status, told = run("calibrate", DEMO, *IMAGE, "--samples", tmp_path / "one.npz", "-o", tmp_path / "ranges.json")
    assert status == 0 and told.endswith("13 extents, 1 samples")
    made = api.convert(DEMO, "onnxruntime", "int8", tmp_path / "int8", ranges=tmp_path / "ranges.json",
                       signatures=["serving_default"])
    assert made.artifact.low_precision["serving_default"].nodes
    np.savez(tmp_path / "samples.npz", image=images)
    verdict = api.validate(DEMO, tmp_path / "int8", str(tmp_path / "samples.npz"), signatures=["serving_default"])
    assert verdict.error is not None and np.isfinite(verdict.error)
