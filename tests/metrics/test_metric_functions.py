"""A metric's function reaches its worker from wherever the user has it."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trt_pipeline.errors import ConfigError
from trt_pipeline.metrics import function

USERS = "tests.metrics.users_metrics"


@pytest.mark.parametrize("source", [f"{USERS}:undefined", "tests/metrics/users_metrics.py:undefined"])
def test_a_name_is_found_as_module_or_file(source: str, tmp_path: Path) -> None:
    found, _ = function.pack("m", source, tmp_path)
    assert math.isnan(function.load(found)({}, None))
    assert not list(tmp_path.iterdir()), "what has a name is not written down"


@pytest.mark.parametrize(("source", "reason"), [
    ("no_such_package.metrics:f", "metric m: no_such_package.metrics:f cannot be imported: ModuleNotFoundError: "
                                  "No module named 'no_such_package'"),
    (f"{USERS}:acuracy", f"metric m: {USERS} has no 'acuracy'"),
    (f"{USERS}:NOT_A_FUNCTION", f"metric m: NOT_A_FUNCTION of {USERS} is no function"),
    ("/nowhere/metrics.py:f", "metric m: there is no file /nowhere/metrics.py"),
])
def test_what_is_not_there_is_one_line(source: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        function.pack("m", source, tmp_path)
    assert str(refused.value) == reason


def test_a_file_that_ends_the_program_or_is_no_python_is_one_line(tmp_path: Path) -> None:
    for text, kind in (("raise SystemExit('usage: metric')", "SystemExit: usage: metric"), ("def f(:", "SyntaxError")):
        (tmp_path / "own.py").write_text(text)
        with pytest.raises(ConfigError, match=kind):
            function.pack("m", f"{tmp_path}/own.py:f", tmp_path)


def test_a_file_finds_what_lies_beside_it_and_leaves_the_search_path_alone(tmp_path: Path) -> None:
    (tmp_path / "beside_the_metric.py").write_text("HALF = 0.5\n")
    (tmp_path / "own.py").write_text("from beside_the_metric import HALF\ndef f(outputs, labels):\n    return HALF\n")
    before = list(sys.path)
    source, _ = function.pack("m", f"{tmp_path}/own.py:f", tmp_path)
    assert sys.path == before
    assert str(tmp_path) in function.search_path(source)
    assert function.load(source)({}, None) == 0.5


def test_closures_lambdas_and_partials_come_whole(tmp_path: Path) -> None:
    weight = 3.0

    def closure(outputs: object, labels: object) -> float:
        return weight

    for given, expected in ((closure, 3.0), (lambda outputs, labels: weight + 1, 4.0),
                            (functools.partial(lambda scale, outputs, labels: scale * weight, 2.0), 6.0)):
        source, _ = function.pack("m", given, tmp_path)
        assert function.load(source)({}, None) == expected


def test_what_holds_a_lock_cannot_be_sent_and_says_what_to_do(tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"metric m cannot be sent to a worker: .*lock.*; let it open what it needs"):
        function.pack("m", lambda outputs, labels: float(lock.locked()), tmp_path)


def test_the_digest_is_of_the_code(tmp_path: Path) -> None:
    def packed(weight: float) -> str:
        return function.pack("m", lambda outputs, labels: weight, tmp_path)[1]

    assert packed(1.0) == packed(1.0) != packed(2.0)

    def of_file(text: str) -> str:
        (tmp_path / "own.py").write_text(text)
        return function.pack("m", f"{tmp_path}/own.py:f", tmp_path)[1]

    first = of_file("def f(outputs, labels):\n    return 1.0\n")
    assert of_file("def f(outputs, labels):\n    return 2.0\n") != first
    assert of_file("def f(outputs, labels):\n    return 1.0\n") == first


def test_the_digest_of_an_imported_function_is_of_its_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "imported_metric.py"
    module.write_text("def f(outputs, labels):\n    return 1.0\n")
    from imported_metric import f  # type: ignore[import-not-found]

    source, first = function.pack("m", f, tmp_path)
    module.write_text("def f(outputs, labels):\n    return 2.0  # the pickle only names it\n")
    assert function.pack("m", f, tmp_path)[0] == source
    assert function.pack("m", f, tmp_path)[1] != first


def test_a_function_of_main_is_sent_by_value(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom trt_pipeline.metrics import function\n\nSCALE = 2.0\n\n\n"
        "def twice(outputs, labels):\n    return SCALE * labels\n\n\n"
        "if __name__ == '__main__':\n    print(function.pack('m', twice, Path(sys.argv[1]))[0])\n")
    done = subprocess.run([sys.executable, str(tmp_path / "script.py"), str(tmp_path)], check=True, text=True,
                          capture_output=True, env={"PYTHONPATH": str(ROOT)})
    assert function.load(done.stdout.strip())({}, 4.0) == 8.0
