"""Which server loads what, at which version."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from trt_pipeline.backends.base import ArtifactKind
from trt_pipeline.publish.servers import (
    LOADERS,
    loadable_kinds,
    parse_version,
    table,
    tensorrt_of,
    what_to_mind,
    why_not_load,
)


@pytest.mark.parametrize(("text", "version"), [
    ("2.14", (2, 14)), ("2.14.1-gpu", (2, 14, 1)), ("24.10", (24, 10)), ("25.02", (25, 2)), ("3", (3,))])
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "latest", "24.10-py3", "24.", ".1", "2,14", "2.14.1-rc0", "v2.14"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is not a server version such as"):
        parse_version(text)


@pytest.mark.parametrize("text", ["-24.10", "2_4.10"])
def test_numbers_that_only_python_takes_for_numbers_are_no_version(text: str) -> None:
    with pytest.raises(ValueError):
        parse_version(text)


@pytest.mark.parametrize(("server", "version", "kinds"), [
    ("tf-serving", "2.14", {"savedmodel"}),
    ("tf-serving", "2.17.1-gpu", {"savedmodel", "tensorrt-savedmodel"}),
    ("tf-serving", "2.18-gpu", {"savedmodel"}),
    ("triton", "22.08", {"onnx", "savedmodel", "tensorrt-savedmodel"}),
    ("tf-serving", "2.13.1-gpu", {"savedmodel"}),
    ("triton", "22.11", {"onnx", "savedmodel", "tensorrt-savedmodel", "tensorrt-plan"}),
    ("triton", "24.10", {"onnx", "savedmodel", "tensorrt-savedmodel", "tensorrt-plan"}),
    ("triton", "25.02", {"onnx", "savedmodel", "tensorrt-savedmodel", "tensorrt-plan"}),
    ("triton", "25.02.1", {"onnx", "savedmodel", "tensorrt-savedmodel", "tensorrt-plan"}),
    ("triton", "25.03", {"onnx", "tensorrt-plan"}),
    ("triton", "26.1", {"onnx", "tensorrt-plan"}),
])
def test_kinds(server: str, version: str, kinds: set[str]) -> None:
    assert set(loadable_kinds(server, version)) == kinds


@pytest.mark.parametrize(("server", "version"), [
    ("tf-serving", "1.15"), ("torchserve", "1.0"), ("tf-serving", "2"), ("triton", "24")])
def test_servers_that_load_nothing_of_ours(server: str, version: str) -> None:
    with pytest.raises(ValueError):
        loadable_kinds(server, version)


@pytest.mark.parametrize(("server", "version", "tensorrt"), [
    ("triton", "24.10", "10.5.0.18"), ("triton", "22.12", "8.5.1"), ("triton", "26.1", None),
    ("tf-serving", "2.14.1-gpu", "8.4.3"), ("tf-serving", "2.17-gpu", "8.6.1.6"), ("tf-serving", "2.14.1", None)])
def test_which_tensorrt_a_server_has(server: str, version: str, tensorrt: str | None) -> None:
    assert tensorrt_of(server, version) == tensorrt


@pytest.mark.parametrize(("built", "version", "loads"), [
    ("10.5.0.18", "24.10", True), ("10.5.0", "24.10", True), ("10.5.0.26", "24.10", False), ("8.5.3.1", "24.10", False),
    ("8.6.1.6", "23.04", False),  # 'expecting library version 8.6.1.2 got 8.6.1.6'
    ("8.5.1.7", "22.12", True),   # its last number is not known to us
    ("11.1.0", "26.1", True),     # nor is anything of this Triton
])
def test_a_plan_wants_the_tensorrt_of_its_build(built: str, version: str, loads: bool) -> None:
    why = why_not_load("tensorrt-plan", {"tensorrt": built}, "triton", version)
    assert (why == "") == loads
    if why:
        assert f"built with TensorRT {built} and triton {version} has {tensorrt_of('triton', version)}" in why
        assert "\n" not in why


def test_the_refusal_names_a_triton_that_would_do() -> None:
    why = why_not_load("tensorrt-plan", {"tensorrt": "10.3.0.26"}, "triton", "24.10")
    assert why.endswith(": build it in nvcr.io/nvidia/tensorrt:24.10-py3, which has that too, or serve it with "
                        "Triton 24.08")


def test_version_compatible_plans_load_in_later_ones_only() -> None:
    built = {"tensorrt": "10.3.0.26", "version compatible": "yes"}
    assert not why_not_load("tensorrt-plan", built, "triton", "24.10")
    assert "version-compatible=true" in what_to_mind("tensorrt-plan", built, "triton", "24.10")
    assert why_not_load("tensorrt-plan", built, "triton", "24.05")
    assert not what_to_mind("tensorrt-plan", built, "triton", "24.08")


def test_a_plan_that_is_not_built_loads_nowhere() -> None:
    assert "not built yet" in why_not_load("tensorrt-plan", {}, "triton", "24.10")


@pytest.mark.parametrize(("kind", "server", "version"), [
    ("tensorrt-plan", "tf-serving", "2.14-gpu"), ("onnx", "tf-serving", "2.14"), ("savedmodel", "triton", "25.03"),
    ("tensorrt-savedmodel", "tf-serving", "2.14"), ("tensorrt-savedmodel", "tf-serving", "2.18-gpu")])
def test_a_kind_that_a_server_does_not_load(kind: ArtifactKind, server: str, version: str) -> None:
    assert kind in why_not_load(kind, {"tensorrt": "8.5.3.1"}, server, version)


def test_engines_in_a_savedmodel_want_their_tensorrt_too_which_one_can_put_into_tensorflow_serving_only() -> None:
    built = {"tensorrt": "8.6.1"}
    assert why_not_load("tensorrt-savedmodel", built, "triton", "24.10")
    assert not why_not_load("tensorrt-savedmodel", built, "triton", "23.04")
    assert not why_not_load("tensorrt-savedmodel", {}, "triton", "24.10")
    assert not why_not_load("tensorrt-savedmodel", built, "tf-serving", "2.14-gpu")
    assert "put libnvinfer 8.6.1 into the image" in what_to_mind("tensorrt-savedmodel", built, "tf-serving", "2.14-gpu")
    assert not what_to_mind("tensorrt-savedmodel", built, "tf-serving", "2.15.1-gpu")
    assert not what_to_mind("tensorrt-savedmodel", {}, "tf-serving", "2.14-gpu")
    assert not what_to_mind("tensorrt-savedmodel", {"tensorrt": "none"}, "tf-serving", "2.14-gpu")
    assert not what_to_mind("onnx", {}, "triton", "24.10")
    assert "TensorRT 11.1.0" in what_to_mind("tensorrt-plan", {"tensorrt": "11.1.0"}, "triton", "26.1")


def test_the_table_has_a_row_for_each_kind_and_each_tensorrt() -> None:
    outputs, images = table().split("\n\n")
    assert len(outputs.splitlines()) == 2 + len(LOADERS)
    assert "| TensorRT plan (`tensorrt`) | - | from 22.11 on |" in outputs
    assert "| 2.14 to 2.17, `-gpu` images | 22.08 to 25.02 |" in outputs
    assert "| `tritonserver:` 22.11-py3, 22.12-py3 | 8.5.1 |" in images
    assert all(line.count("|") == 3 for line in images.splitlines())


def test_the_readme_has_this_table() -> None:
    assert table().strip() in (ROOT / "README.md").read_text()
