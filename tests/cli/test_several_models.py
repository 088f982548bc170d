"""`optimize` and `sweep` of several models, where candidates are judged, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, quick_demo
from trt_pipeline import cli
from trt_pipeline.run_result import RunResult


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit status of the command line."""
    monkeypatch.setattr("sys.argv", ["trt-pipeline", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


@pytest.mark.slow
def test_one_that_is_wrong_keeps_the_others_from_nothing_and_a_sweep_can_be_published(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good = quick_demo(tmp_path / "serving", candidates=["tensorflow/fp32"]).model_dump(mode="json", exclude_none=True)
    wrong = good | {"name": "wrong", "samples": {"validation": "nowhere.npz"}}
    files = []
    for config in (wrong, good):
        files.append(tmp_path / f"{config['name']}.yaml")
        files[-1].write_text(yaml.safe_dump(config))
    status = run(monkeypatch, "sweep", *files, "--output", tmp_path / "artifacts", "--json")
    told, complaint = capsys.readouterr()
    assert status == 2
    assert complaint.count("nowhere.npz") == 2, "when it happened, and at the end"
    runs = json.loads(told)["runs"]
    assert [one["name"] for one in runs] == ["demo"]

    result = RunResult.model_validate(runs[0])
    assert result.publications == ()
    published, = result.candidate("tensorflow/fp32").publish(tmp_path / "served/digits")
    assert (published.candidate, published.version, published.new) == ("tensorflow/fp32", 1, True)
    assert published.why.startswith("chosen by hand; latency_p50@1: ")
    assert (tmp_path / "served/digits/1/saved_model.pb").is_file()
    assert run(monkeypatch, "verify", tmp_path / "served") == 0
    (tmp_path / "served/digits/1/saved_model.pb").write_bytes(b"another")
    assert run(monkeypatch, "verify", tmp_path / "served") == 1
    assert "saved_model.pb" in capsys.readouterr().err
    assert [one.new for one in result.candidate("original").publish(tmp_path / "served/digits")] == [True]


@pytest.mark.parametrize(("options", "status", "text"), [
    (["--executor", "rai"], 2, "no executor 'rai': there are local and ray; did you mean 'ray'?"),
    (["--cpus", "2"], 2, "--address and --cpus are of a cluster: add --executor ray"),
    (["--executor", "ray", "--address", "ray://here:1"], 2, "is a Ray client's address"),
])
def test_where_candidates_are_judged(options: list[str], status: int, text: str, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert run(monkeypatch, "sweep", "demo", "--output", tmp_path / "artifacts", *options) == status
    assert text in capsys.readouterr().err
    assert not (tmp_path / "artifacts").exists()
