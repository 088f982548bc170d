"""One process serves both translators and iris; clients of stubs, curl and our own ask it, as their pages say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
import tensorflow as tf

from models.translator.tokenizer import TOKENIZER_ASSET, Tokenizer, pad_rows
from tests.conftest import ROOT
from tests.server_process import ServerProcess, server_process

pytestmark = pytest.mark.slow
SENTENCES = {"enko": ["Save the file", "The window could not be opened."],
             "koen": ["파일을 저장합니다", "새 창을 엽니다"]}
FLOWER = {"SepalLength": [5.1], "SepalWidth": [3.3], "PetalLength": [1.7], "PetalWidth": [0.5]}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process({name: ROOT / "models" / name for name in ("enko", "koen", "iris")}) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


@pytest.mark.parametrize("model", ["enko", "koen"])
def test_a_client_of_nothing_but_the_stubs_translates(model: str, server: ServerProcess) -> None:
    script = (ROOT / "examples/translate.py").read_text()
    assert "trt_pipeline" not in script and "models." not in script
    told = subprocess.run([sys.executable, "examples/translate.py", model, *SENTENCES[model], "--server", server.grpc],
                          cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUTF8": "1"}, text=True,
                          capture_output=True, check=False)
    assert told.returncode == 0, told.stderr
    tokenizer = Tokenizer(ROOT / "models" / model / "1" / TOKENIZER_ASSET)
    translator = tf.saved_model.load(str(ROOT / "models" / model / "1")).signatures["translate"]
    direct = translator(input=tf.constant(pad_rows([tokenizer.encode(text) for text in SENTENCES[model]])))["outputs"]
    assert told.stdout.splitlines() == [tokenizer.decode(row) for row in direct.numpy()]
    assert all(told.stdout.splitlines())


def test_iris_over_rest(server: ServerProcess) -> None:
    answer = httpx.post(f"{server.rest}/v1/models/iris:classify", json={"examples": [FLOWER]}, timeout=60)
    assert answer.status_code == 200, answer.text
    classes, = answer.json()["results"]
    scores = [score for _, score in classes]
    assert len(classes) == 3
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert scores.index(max(scores)) == 0, "it is a setosa"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_iris_with_curl(server: ServerProcess) -> None:
    told = subprocess.run(["examples/iris.sh", server.rest], cwd=ROOT, text=True, capture_output=True, check=True)
    setosa, virginica = ([score for _, score in row] for row in json.loads(told.stdout)["results"])
    assert (setosa.index(max(setosa)), virginica.index(max(virginica))) == (0, 2)


def test_many_requests_at_once(server: ServerProcess) -> None:
    told = subprocess.run(
        [sys.executable, "examples/many_requests.py", server.rest, "enko", "translate",
         "calibration_data/enko_validation.npz"], cwd=ROOT, text=True, capture_output=True, check=False)
    assert told.returncode == 0, told.stderr
    assert re.fullmatch(r"200 answers in [\d.]+ s, \d+/s: outputs, scores\n", told.stdout)


def test_the_page_on_clients_runs_as_it_is_written(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/clients.md").read_text()
    page = page.replace("http://localhost:8501", server.rest).replace("localhost:8500", server.grpc)
    snippets = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    for snippet in snippets:
        exec(compile(snippet, "docs/clients.md", "exec"), {})
    assert len(snippets) == 4
    assert "NOT_FOUND Servable not found for request: Latest(enok)" in capsys.readouterr().out


def test_requests_from_the_command_line(server: ServerProcess) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "trt_pipeline", "request", server.rest, "iris", "--classify", "--json", "--examples",
         json.dumps([FLOWER])], cwd=ROOT, text=True, capture_output=True, check=False)
    assert told.returncode == 0, told.stderr
    assert len(json.loads(told.stdout)["results"][0]) == 3
