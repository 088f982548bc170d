"""serving/compose.yaml against the Compose specification, and as the servers in it need it."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.publish.folders import CPU, GPU, publish
from tests.publish.test_batching_files import SENTENCE, engine
from trt_pipeline.publish import versions

SCHEMA = json.loads((Path(__file__).parent / "schemas/compose-spec.json").read_text())
TRITON = ({"kind": "triton", "version": "24.10"},)
VALIDATOR = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)


def services(root: Path) -> dict[str, Any]:
    document = yaml.safe_load((root / "serving/compose.yaml").read_text())
    VALIDATOR.validate(document)
    found: dict[str, Any] = document["services"]
    return found


def only(root: Path) -> Any:
    service, = services(root).values()
    return service


def test_the_schema_knows_a_typo() -> None:
    with pytest.raises(jsonschema.ValidationError, match="'portz' does not match any"):
        VALIDATOR.validate({"services": {"a": {"image": "b", "portz": []}}})


def test_tensorflow_serving_has_ports_mounts_and_every_file(tmp_path: Path) -> None:
    publish(tmp_path)
    service = only(tmp_path)
    assert service["image"] == "tensorflow/serving:2.14.1"
    assert service["ports"] == ["8500:8500", "8501:8501"]
    assert service["volumes"] == [{"type": "bind", "source": ".", "target": "/models", "read_only": True}]
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    assert flags["enable_batching"] == flags["enable_per_model_batching_parameters"] == "true"
    files = [value for value in flags.values() if value.startswith("/models/")]
    assert len(files) == 3
    assert all((tmp_path / "serving" / Path(file).name).is_file() for file in files)


@pytest.mark.parametrize(("version", "of", "flags"), [
    ("2.14", {}, 3), ("2.10", {}, 2), ("2.14", {"of": SENTENCE}, 0), ("2.10", {"of": SENTENCE}, 0)])
def test_only_what_may_share_batches_is_batched(tmp_path: Path, version: str, of: Any, flags: int) -> None:
    publish(tmp_path, targets=({"kind": "tf-serving", "version": version},), **of)
    assert sum("batching" in flag for flag in only(tmp_path)["command"]) == flags


def test_up_to_2_10_nothing_is_batched_beside_a_model_whose_batches_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "serving/by_hand/1").mkdir(parents=True)
    (tmp_path / "serving/by_hand/1/saved_model.pb").write_text("graph")
    publish(tmp_path, targets=({"kind": "tf-serving", "version": "2.10"},))
    assert not [flag for flag in only(tmp_path)["command"] if "batching" in flag]


def test_a_gpu_is_asked_for_only_where_one_is_of_use(tmp_path: Path) -> None:
    publish(tmp_path)
    assert "reservations" not in only(tmp_path)["deploy"]["resources"]
    publish(tmp_path, kind="tensorrt-savedmodel", content="engine", targets=GPU,
            artifact={"profiles": engine((1, 4, 8)).profiles})
    service = only(tmp_path)
    assert service["image"] == "tensorflow/serving:2.14.1-gpu"
    assert service["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert "--tensorflow_session_config_file=/models/tensorflow_session.config" in service["command"]


def test_the_image_loads_every_version_that_is_served(tmp_path: Path) -> None:
    publish(tmp_path, name="engine", kind="tensorrt-savedmodel", targets=GPU)
    publish(tmp_path, name="plain", targets=({"kind": "tf-serving", "version": "2.19"},))
    assert only(tmp_path)["image"] == "tensorflow/serving:2.14.1-gpu"
    publish(tmp_path, name="engine", content="plain", targets=CPU, versions={"labels": {}, "serve": {"latest": 1}})
    assert only(tmp_path)["image"] == "tensorflow/serving:2.19.0"


def test_triton_has_its_repository_and_both_servers_share_a_file(tmp_path: Path) -> None:
    publish(tmp_path, kind="onnx", targets=TRITON)
    service = only(tmp_path)
    assert service["image"] == "nvcr.io/nvidia/tritonserver:24.10-py3"
    assert service["ports"] == ["8000:8000", "8001:8001", "8002:8002"]
    assert service["volumes"][0]["source"] == "./triton"
    assert service["command"][:2] == ["tritonserver", "--model-repository=/models/triton"]
    assert not any("gpu" in flag for flag in service["command"])
    publish(tmp_path, name="other")
    assert [*services(tmp_path)] == ["tensorflow-serving", "triton"]


def test_memory_is_what_was_measured_for_all_that_may_be_loaded(tmp_path: Path) -> None:
    publish(tmp_path, name="one", host_mb=100)  # three versions may be loaded
    publish(tmp_path, name="two", host_mb=200, versions={"labels": {}, "serve": {"latest": 1}})
    assert only(tmp_path)["deploy"]["resources"]["limits"]["memory"] == "768M"  # 1.5 * 500, in steps of 64
    publish(tmp_path, name="three", host_mb=0)
    assert "deploy" not in only(tmp_path)
    assert "no limit of memory: that of some model was never measured" in (
        tmp_path / "serving/compose.yaml").read_text()


class _Status(http.server.BaseHTTPRequestHandler):
    state = "AVAILABLE"

    def do_GET(self) -> None:
        known = self.path in ("/v1/models/demo", "/v1/models/other", "/v1/models/by$h'nd")
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"model_version_status": [{"version": "1", "state": self.state}]} if known else
                                    {"error": "Could not find any versions of model"}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_health_check_asks_for_every_model(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def healthy() -> bool:
        kind, *command = only(tmp_path)["healthcheck"]["test"]
        assert kind == "CMD"
        command = [part.replace("8501", str(port)).replace("$$", "$") for part in command]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    (tmp_path / "serving/by$h'nd/1").mkdir(parents=True)
    (tmp_path / "serving/by$h'nd/1/saved_model.pb").write_text("graph")
    publish(tmp_path, name="demo")
    publish(tmp_path, name="other")
    assert healthy()
    with monkeypatch.context() as patch:
        patch.setattr(_Status, "state", "LOADING")
        assert not healthy()
    publish(tmp_path, name="unknown")
    assert not healthy()
    versions.shutil.rmtree(tmp_path / "serving/unknown")
    publish(tmp_path, name="other")
    assert healthy()
