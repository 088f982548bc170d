"""What `--gate` takes: expressions, and files of them; every complaint is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import quick_demo
from trt_pipeline.ci import gate, requirements
from trt_pipeline.ci.requirements import CHOSEN
from trt_pipeline.errors import ConfigError, InputError


@pytest.mark.parametrize(("text", "candidate", "condition"), [
    ("parity <= 0.01", CHOSEN, "parity <= 0.01"),
    ("tensorflow/int8: speedup_latency_p50@1 >= 1.1", "tensorflow/int8", "speedup_latency_p50@1 >= 1.1"),
    ("tensorflow/int8:wide: size_mb<20", "tensorflow/int8:wide", "size_mb < 20"),
    ("metric:accuracy >= 0.9", CHOSEN, "metric:accuracy >= 0.9"),
    ("tensorflow/fp32: ok", "tensorflow/fp32", "ok"),
])
def test_an_expression(text: str, candidate: str, condition: str) -> None:
    found = requirements.parse(text)
    assert (found.candidate, str(found)) == (candidate, condition)


@pytest.mark.parametrize(("text", "complaint"), [
    ("latency_p5@1 <= 3", "did you mean 'latency_p50@1'"),
    ("latency_p50 <= 3", "needs a batch size"),
    ("parity = 3", "a bound is 'FIGURE <= NUMBER'"),
    ("ok", "names its candidate"),
    ("gate.yaml", "the gate gate.yaml cannot be read: No such file"),
])
def test_what_is_no_bound_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        requirements.read([text])
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_say_the_same_in_every_form(tmp_path: Path) -> None:
    expected = requirements.read(["parity <= 0.01", "tensorflow/int8: ok", "tensorflow/int8: size_mb < 20"])
    as_list, as_mapping, as_json = (tmp_path / name for name in ("a.yaml", "b.yml", "c.json"))
    as_list.write_text("- parity <= 0.01\n- tensorflow/int8: ok\n- tensorflow/int8: size_mb < 20\n")
    as_mapping.write_text("chosen: parity <= 0.01\ntensorflow/int8: [ok, size_mb < 20]\n")
    as_json.write_text(json.dumps({"chosen": ["parity <= 0.01"], "tensorflow/int8": ["ok", "size_mb < 20"]}))
    for file in (as_list, as_mapping, as_json):
        assert requirements.read([str(file)]) == expected
    assert requirements.read([str(as_list), "parity <= 0.01"]) == expected, "each once"


@pytest.mark.parametrize(("text", "complaint"), [
    ("", "is empty"),
    ("- 3\n", "'3' is no bound"),
    ("tensorflow/int8: 3\n", "'tensorflow/int8: 3' is no bound"),
    ("- [parity <= 1", "neither YAML nor JSON"),
    ("- pearity <= 1\n", "no figure 'pearity'"),
])
def test_a_wrong_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        requirements.read([str(file)])
    assert str(caught.value).startswith(str(file))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "complaint"), [
    ("tensorflow/int9: ok", "did you mean 'tensorflow/int8'"),
    ("throughput@64 >= 3", "add 64 to benchmark.batch_sizes"),
    ("metric:accuracy >= 0.9", "demo has no metric of its own"),
])
def test_what_the_run_will_not_measure_is_refused_before_it(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        gate.check(gate.checks([text]), quick_demo(tmp_path), dict.fromkeys(
            ("original", "tensorflow/fp32", "tensorflow/int8"), (1,)))


def test_a_baseline_is_looked_for_before_the_run(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    with pytest.raises(InputError, match="begin one with --write-baseline"):
        gate.checks(baseline_file=file)
    gate.checks(baseline_file=file, write_baseline=True)
    with pytest.raises(ConfigError, match="--write-baseline needs --baseline FILE"):
        gate.checks(write_baseline=True)
