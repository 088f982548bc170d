"""Which server loads what, at which version."""

from __future__ import annotations

import pytest

from trt_pipeline.publish.servers import loadable_kinds, parse_version


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
    ("triton", "24.10", {"onnx", "savedmodel", "tensorrt-savedmodel"}),
    ("triton", "25.02", {"onnx", "savedmodel", "tensorrt-savedmodel"}),
    ("triton", "25.02.1", {"onnx", "savedmodel", "tensorrt-savedmodel"}),
    ("triton", "25.03", {"onnx"}),
    ("triton", "26.1", {"onnx"}),
])
def test_kinds(server: str, version: str, kinds: set[str]) -> None:
    assert set(loadable_kinds(server, version)) == kinds


@pytest.mark.parametrize(("server", "version"), [("tf-serving", "1.15"), ("torchserve", "1.0")])
def test_servers_that_load_nothing_of_ours(server: str, version: str) -> None:
    with pytest.raises(ValueError):
        loadable_kinds(server, version)
