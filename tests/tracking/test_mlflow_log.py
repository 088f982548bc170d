"""Runs in MLflow: read back through its own client, from a folder and, where the whole of MLflow is, from a server."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import urlopen

import mlflow
import pytest
from mlflow import MlflowClient

from tests.report import factory
from trt_pipeline import figures, tracking
from trt_pipeline.errors import ConfigError, MissingError, RequestError, UnreachableError
from trt_pipeline.run_result import RunResult
from trt_pipeline.stages.run_folder import folder_name

_WHOLE = all(importlib.util.find_spec(name) for name in ("flask", "sqlalchemy", "alembic"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of MLflow's own, over a database; what mlflow-skinny lacks."""
    if not _WHOLE:
        pytest.skip("mlflow-skinny has no server: pip install mlflow")
    root = tmp_path_factory.mktemp("mlflow-server")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        port = free.server_port
    with (root / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", "--backend-store-uri",
             f"sqlite:///{root}/runs.db", "--artifacts-destination", str(root / "files")],
            stdout=log, stderr=log, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"})
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, (root / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(params=["folder", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "server":
        return str(request.getfixturevalue("server"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    """A run with files: four of its own, two of each candidate, and models."""
    found = factory.run((
        factory.ORIGINAL,
        factory.judged("tensorflow/fp32", 1.5, 3.4e-7).model_copy(update={
            "options": {"remapping": True}, "metrics": {"top 1": 0.875}}),
        factory.judged("tensorflow/bf16", 1.9, 0.085, "serve.scores: 97 of 640 elements outside close: scaled 0.05"),
        factory.candidate("tf-trt/fp16", "failed", "convert: worker killed " + "x" * 20_000),
        factory.candidate("tensorrt/fp16", "pending-gpu", "its engine is built on the target"),
    ), (factory.PUBLISHED,), folder=str(tmp_path / "run"))
    found = found.model_copy(update={"config": {**found.config, "backends": {"tensorflow": {"remapping": False}}}})
    folder = Path(found.folder)
    for candidate in found.candidates:
        (place := folder / "candidates" / folder_name(candidate.name) / "model").mkdir(parents=True)
        (place / "saved_model.pb").write_bytes(b"weights")
        (place.parent / "result.json").write_text(candidate.model_dump_json())
        (place.parent / "log.txt").write_text("")
    for name in ("report.html", "report.json", "run.json", "junit.xml"):
        (folder / name).write_text(name)
    return found


def runs(uri: str, experiment_id: str) -> int:
    return len(MlflowClient(uri).search_runs([experiment_id]))


def test_a_run_is_one_run_with_its_candidates_below(uri: str, result: RunResult) -> None:
    logged = tracking.log(result, uri=uri, experiment="whole")
    assert logged.new
    client = MlflowClient(uri)
    assert client.get_experiment(logged.experiment_id).name == "whole"
    parent = client.get_run(logged.run_id)
    assert parent.info.run_name == "demo 20240501-101500"
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time - parent.info.start_time == 126_700
    assert time.localtime(parent.info.start_time / 1000)[:6] == (2024, 5, 1, 10, 15, 0), "when it ran, not when logged"
    assert parent.data.params["model_digest"] == result.model_digest
    assert parent.data.params["config.targets"] == '[{"kind": "tf-serving", "version": "2.14"}]'
    assert parent.data.params["environment.cpu"] == "Some CPU @ 2.5 GHz"
    assert parent.data.tags["best"] == "tensorflow/fp32"
    assert parent.data.tags["published.tf-serving-2.14"] == "tensorflow/fp32, version 3"
    assert parent.data.metrics["candidates.ok"] == 2
    assert parent.data.metrics["speedup_latency_p50_at_1"] == pytest.approx(1.5)
    assert files(client, logged.run_id) == {"report.html", "report.json", "run.json", "junit.xml"}
    assert logged.candidates.keys() == {candidate.name for candidate in result.candidates}
    assert runs(uri, logged.experiment_id) == 6
    for candidate in result.candidates:
        run = client.get_run(logged.candidates[candidate.name])
        assert run.data.tags["mlflow.parentRunId"] == logged.run_id
        assert run.data.tags["status"] == candidate.status
        assert run.info.status == ("FAILED" if candidate.status == "failed" else "FINISHED")
        assert run.data.params["backend"] == candidate.backend
        assert files(client, run.info.run_id) == {"result.json", "log.txt"}, "no model"
        for name in figures.names(result):
            known = run.data.metrics.get(name.replace("@", "_at_").replace(":", "_").replace(" ", "_"))
            assert known == figures.figure(candidate, name), (candidate.name, name)
    fp32 = client.get_run(logged.candidates["tensorflow/fp32"])
    assert fp32.data.metrics["metric_top_1"] == 0.875
    assert fp32.data.metrics["speedup_latency_p50_at_1_low"] == pytest.approx(1.44)
    assert fp32.data.params["options"] == '{"remapping": true}', "its own option counts, not the backend's"
    found = client.search_runs([logged.experiment_id], "metrics.speedup_latency_p50_at_1_low > 1 and "
                                                       "tags.status = 'ok' and params.backend = 'tensorflow'")
    assert [run.info.run_name for run in found] == ["tensorflow/fp32"]


def test_logged_twice_it_is_there_once_and_a_change_shows(uri: str, result: RunResult) -> None:
    first = tracking.log(result, uri=uri, experiment="twice")
    again = tracking.log(result, uri=uri, experiment="twice")
    assert not again.new
    assert again.model_dump(exclude={"new"}) == first.model_dump(exclude={"new"})
    done = factory.judged("tensorrt/fp16", 4.0, 1e-3)
    finalized = result.model_copy(update={"candidates": (*result.candidates[:-1], done)})
    third = tracking.log(finalized, uri=uri, experiment="twice")
    assert third.new
    assert (third.run_id, third.candidates) == (first.run_id, first.candidates)
    client = MlflowClient(uri)
    run = client.get_run(third.candidates["tensorrt/fp16"])
    assert run.data.tags["status"] == "ok"
    assert run.data.metrics["parity"] == 1e-3
    assert client.get_run(third.run_id).data.tags["best"] == "tensorrt/fp16"
    assert len(client.get_metric_history(third.candidates["tensorflow/fp32"], "parity")) == 1, "nothing twice"
    assert runs(uri, first.experiment_id) == 6


def test_what_was_cut_off_is_finished(uri: str, result: RunResult) -> None:
    first = tracking.log(result, uri=uri, experiment="cut")
    client = MlflowClient(uri)
    client.update_run(first.run_id, status="RUNNING")
    client.delete_run(first.candidates["original"])
    again = tracking.log(result, uri=uri, experiment="cut")
    assert again.new
    assert again.run_id == first.run_id
    changed = {name for name, run_id in again.candidates.items() if first.candidates[name] != run_id}
    assert changed == {"original"}
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert runs(uri, first.experiment_id) == 6


def test_another_run_or_another_model_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team")
    logged = [tracking.log(run, uri=address) for run, address in (
        (factory.run(), None), (factory.run(run_id="mine"), ""), (factory.run(model_digest="0" * 64), "env"))]
    assert len({one.run_id for one in logged}) == 3
    assert MlflowClient().get_experiment_by_name("team").experiment_id == logged[0].experiment_id
    assert mlflow.active_run() is None
    assert runs(tmp_path.as_uri(), logged[0].experiment_id) == 6


def test_what_is_not_finite_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    lost = factory.judged("a/fp32", 2.0, 0.0).model_copy(update={"metrics": {"perplexity": math.inf, "bleu": 31.5}})
    logged = tracking.log(factory.run((factory.ORIGINAL, lost)), uri=tmp_path.as_uri())
    metrics = MlflowClient(tmp_path.as_uri()).get_run(logged.candidates["a/fp32"]).data.metrics
    assert "metric_perplexity" not in metrics
    assert metrics["metric_bleu"] == 31.5


def test_no_server_answers() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        address = f"127.0.0.1:{closed.server_port}"
    started = time.monotonic()
    for call in (lambda uri: tracking.log(factory.run(), uri=uri), tracking.check):
        with pytest.raises(UnreachableError, match=f"^http://{address}: no MLflow server answers") as caught:
            call(f"http://me:secret@{address}")
        assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 60, "MLflow itself would try for minutes"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_the_server_refuses() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401, "who are you?")

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusing) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            with pytest.raises(RequestError, match="401") as caught:
                tracking.log(factory.run(), uri=f"http://127.0.0.1:{http.server_port}")
        finally:
            http.shutdown()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("uri", "kind", "words"), [
    ("file:///nowhere/store", ConfigError, "MLFLOW_ALLOW_FILE_STORE=true"),
    ("nonsense://host", ConfigError, "is no address of an MLflow server"),
    pytest.param("sqlite:////nowhere/runs.db", MissingError, "pip install mlflow",
                 marks=pytest.mark.skipif(_WHOLE, reason="this MLflow can")),
])
def test_stores_that_cannot_be(uri: str, kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    for call in (lambda: tracking.check(uri), lambda: tracking.log(factory.run(), uri=uri)):
        with pytest.raises(kind, match=words):
            call()


def test_without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingError, match=r"pip install 'trt-pipeline\[mlflow\]'"):
        tracking.check()


def test_the_package_starts_without_it() -> None:
    code = ("import sys, trt_pipeline, trt_pipeline.tracking, trt_pipeline.stages.observer; "
            "print({'mlflow', 'rich.progress', 'tensorflow'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def files(client: MlflowClient, run_id: str) -> set[str]:
    return {found.path for found in client.list_artifacts(run_id)}


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
