"""What a configuration may say, and the words with which anything else is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trt_pipeline.config.candidates import candidates_of
from trt_pipeline.config.schema import BackendSettings, Config, SampleSources, Target
from trt_pipeline.errors import ConfigError

LEAST: dict[str, Any] = {"name": "demo", "model": "models/demo/1", "samples": {"validation": "v.npz"}}


def complaint(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(LEAST | changes)
    return str(caught.value.errors()[0]["msg"]).removeprefix("Value error, ")


def test_name_model_and_samples_are_enough() -> None:
    config = Config.model_validate(LEAST)
    assert (config.model, config.tags, config.signatures) == (Path("models/demo/1"), ("serve",), None)
    assert (config.objective_metric, config.objective_batch) == ("latency_p50", 1)
    assert config.targets == (Target(kind="tf-serving", version="2.14"),)
    assert config.keep is None


def test_an_interpreter_is_where_its_link_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment's ``python`` is a link out of it: followed, it would be another environment's."""
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("python", "~/python", str(tmp_path / "python")):
        config = Config.model_validate(LEAST | {"backends": {"tensorflow": {"python": given}}})
        assert config.settings_of("tensorflow").python == tmp_path / "python"
    assert config.settings_of("onnxruntime") == BackendSettings()


@pytest.mark.parametrize("name", ["demo", "en-ko_2.1", "0", "a" * 128, "a..b"])
def test_names_that_are_safe_as_folders(name: str) -> None:
    assert Config.model_validate(LEAST | {"name": name}).name == name


@pytest.mark.parametrize("name", ["..", ".", "", "../demo", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "데모",
                                  "a" * 129, "a\0"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    assert complaint(name=name) == (
        "a name is letters, digits, '_', '.' and '-', and starts with a letter or digit")


def test_a_model_may_not_take_the_name_of_the_triton_repository() -> None:
    """serving/triton/ is Triton's model repository; TF Serving's versions of 'triton' would land inside it."""
    with pytest.raises(ValidationError):
        Config.model_validate(LEAST | {"name": "triton"})


@pytest.mark.parametrize(("candidate", "text"), [
    ("onxruntime/fp32", "no backend 'onxruntime': there are {}; did you mean 'onnxruntime'?"),
    ("zzz/fp32", "no backend 'zzz': there are {}"),
    ("onnxruntime/in8", "backend onnxruntime has no precision 'in8': it has fp32, fp16, int8; did you mean 'int8'?"),
    ("onnxruntime", "backend onnxruntime has no precision '': it has fp32, fp16, int8"),
    ("onnxruntime/int8/x",
     "backend onnxruntime has no precision 'int8/x': it has fp32, fp16, int8; did you mean 'int8'?"),
])
def test_unknown_candidates(candidate: str, text: str) -> None:
    from trt_pipeline.backends import BACKENDS

    assert complaint(candidates=[candidate]) == text.format(", ".join(BACKENDS))


@pytest.mark.parametrize(("objective", "hint"), [
    ("latncy_p50@1", "; did you mean 'latency_p50'?"),
    ("throughputs@1", "; did you mean 'throughput'?"),
    ("latency_p50", "; did you mean 'latency_p50'?"),
    ("latency_p50@", "; did you mean 'latency_p50'?"),
    ("latency_p50@-1", "; did you mean 'latency_p50'?"),
    ("zzz@1", ""),
])
def test_unknown_objectives(objective: str, hint: str) -> None:
    assert complaint(objective=objective) == (
        "an objective is METRIC@BATCH with METRIC one of latency_p50, latency_p90, latency_p99, throughput" + hint)


def test_an_objective_must_be_measured() -> None:
    assert complaint(objective="throughput@16") == (
        "objective throughput@16 is not measured: add 16 to benchmark.batch_sizes")
    measured = Config.model_validate(LEAST | {"objective": "throughput@16", "benchmark": {"batch_sizes": [16]}})
    assert measured.objective_batch == 16


@pytest.mark.parametrize(("target", "text"), [
    ({"kind": "triton", "version": "newest"}, "'newest' is not a server version such as 2.14.1 or 24.10"),
    ({"kind": "triton", "version": "24.10-py3"}, "'24.10-py3' is not a server version such as 2.14.1 or 24.10"),
    ({"kind": "triton", "version": ""}, "'' is not a server version such as 2.14.1 or 24.10"),
    ({"kind": "tf-serving", "version": "1.15"},
     "TensorFlow Serving 1.15 does not load TensorFlow 2 models; name 2.14 or later"),
    ({"kind": "torchserve", "version": "1"}, "Input should be 'tf-serving' or 'triton'"),
    ({"kind": "triton", "version": 24.10}, "Input should be a valid string"),
    ({"kind": "triton"}, "Field required"),
])
def test_targets_that_are_none(target: dict[str, Any], text: str) -> None:
    assert complaint(targets=[target]) == text


@pytest.mark.parametrize(("changes", "text"), [
    ({"max_batch_size": 0}, "Input should be greater than or equal to 1"),
    ({"keep": 0}, "Input should be greater than or equal to 1"),
    ({"benchmark": {"batch_sizes": []}}, "batch sizes are whole numbers from 1 on"),
    ({"benchmark": {"batch_sizes": [0, 1]}}, "batch sizes are whole numbers from 1 on"),
    ({"benchmark": {"duration_s": 0}}, "Input should be greater than 0"),
    ({"limits": {"memory_gb": -1}}, "Input should be greater than 0"),
    ({"tags": "serve"}, "Input should be a valid tuple"),
    ({"padding": {"x": 0.5}}, "Input should be a valid integer, got a number with a fractional part"),
])
def test_numbers_and_lists_out_of_range(changes: dict[str, Any], text: str) -> None:
    assert complaint(**changes) == text


def test_batch_sizes_are_sorted_and_each_comes_once() -> None:
    assert Config.model_validate(LEAST | {"benchmark": {"batch_sizes": [8, 1, 8]}}).benchmark.batch_sizes == (1, 8)


def test_one_source_of_samples_does_for_all_signatures_or_each_has_its_own() -> None:
    shared = SampleSources(validation="v.npz")
    assert (shared.of("validation", "a"), shared.of("calibration", "a")) == ("v.npz", None)
    own = SampleSources(validation={"a": "a.npz"}, calibration={"b": "b.npz"})
    assert (own.of("validation", "a"), own.of("validation", "b"), own.of("calibration", "b")) == (
        "a.npz", None, "b.npz")


def test_candidates_are_all_pairs_without_the_original() -> None:
    found = [candidate.name for candidate in candidates_of([], [])]
    assert {"tensorflow/fp32", "tensorflow/bf16", "onnxruntime/fp32", "onnxruntime/int8"} <= set(found)
    assert not any(name.startswith("original") for name in found)


def test_candidates_are_limited_by_name() -> None:
    def names(*limits: list[str]) -> list[str]:
        return [candidate.name for candidate in candidates_of(*limits)]

    assert names(["onnxruntime"], []) == ["onnxruntime/fp32", "onnxruntime/fp16", "onnxruntime/int8"]
    assert names(["tensorflow", "onnxruntime"], ["int8"]) == ["tensorflow/int8", "onnxruntime/int8"]


def test_candidates_with_options_of_their_own() -> None:
    given = ["tensorflow/fp32", {"backend": "onnxruntime", "precision": "int8", "label": "all", "batch_sizes": [1, 4]}]
    config = Config.model_validate(LEAST | {"candidates": given})
    assert [candidate.name for candidate in config.candidates] == ["tensorflow/fp32", "onnxruntime/int8:all"]
    assert config.model_dump(mode="json")["candidates"] == given
    assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(("candidate", "text"), [
    ({"backend": "tensorflow", "precision": "fp23"}, "has no precision 'fp23'"),
    ("tensorflow/fp32", "two candidates are called tensorflow/fp32: give one of them a label"),
    ({"backend": "tensorflow", "precision": "bf16", "label": "a/b"}, "should match pattern"),
    ({"backend": "tensorflow", "precision": "bf16", "batch_sizes": [0]}, "whole numbers from 1 on"),
])
def test_candidates_that_cannot_be(candidate: object, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Config.model_validate(LEAST | {"candidates": ["tensorflow/fp32", candidate]})


@pytest.mark.parametrize(("backends", "precisions", "text"), [
    (["tensorflo"], [], "; did you mean 'tensorflow'?"),
    ([], ["fp23"], "; did you mean 'fp32'?"),
    (["tensorflow"], ["native"], "no backend of tensorflow has precision native"),
])
def test_limits_that_name_nothing(backends: list[str], precisions: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        candidates_of(backends, precisions)
    assert str(caught.value).endswith(text)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config.model_validate(LEAST).name = "other"  # type: ignore[misc]


def test_versions_that_servers_load_and_their_labels() -> None:
    assert Config.model_validate(LEAST).versions.model_dump() == {
        "serve": {"latest": 2}, "labels": {"stable": "previous", "canary": "newest"}}
    given = {"serve": {"specific": [1, 3]}, "labels": {"stable": 1, "v3.old": 3}}
    config = Config.model_validate(LEAST | {"versions": given})
    assert config.versions.model_dump(mode="json") == given
    assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("versions", [{"serve": {"latest": 0}}, {"serve": {"specific": []}}, {"serve": "some"},
                                      {"labels": {"a/b": "newest"}}, {"labels": {"stable": "oldest"}},
                                      {"labels": {"stable": 0}}, {"label": {}}])
def test_versions_that_make_no_sense_are_refused(versions: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(LEAST | {"versions": versions})


@pytest.mark.parametrize("storage", ["models", "/srv/models", "pvc://a b"])
def test_a_storage_is_a_uri(storage: str) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(LEAST | {"storage": storage})
