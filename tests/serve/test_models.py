"""Which models there are, and what status and metadata say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.errors import ModelError
from trt_pipeline.serve.models import ModelStore, find_models, versions_below

Ask = Callable[..., tuple[int, Any]]
Raw = Callable[..., tuple[int, bytes]]


def test_every_folder_with_a_numeric_version_is_a_model(serving: Path) -> None:
    assert find_models(serving) == {"broken": serving / "broken", "toy": serving / "toy"}


def test_versions_are_in_the_order_of_numbers(serving: Path) -> None:
    assert list(versions_below(serving / "toy")) == [2, 10]


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_no_model_says_what_to_do(serving: Path, folder: str) -> None:
    with pytest.raises(ModelError, match=r"no model below .*: run trt-pipeline optimize NAME first"):
        find_models(serving / folder)


def test_a_base_path_without_versions_says_what_to_do(serving: Path) -> None:
    with pytest.raises(ModelError, match=r"no version of toy in .*run trt-pipeline optimize NAME first"):
        ModelStore({"toy": serving / "empty"})


@pytest.mark.parametrize("path", ["/v1/models/toy", "/v1/models/toy/versions/10", "/v1/models/t%6fy?x=1",
                                  "/V1/models/toy/labels/any"])
def test_status(raw: Raw, path: str) -> None:
    assert raw("GET", path) == (200, b"""{
 "model_version_status": [
  {
   "version": "10",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
""")


@pytest.mark.parametrize("path", ["/v1/models/toy/metadata", "/v1/models/toy/versions/10/metadata"])
def test_metadata(ask: Ask, path: str) -> None:
    status, answer = ask(path)
    assert status == 200
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "10"}
    assert list(answer["metadata"]) == ["signature_def"]
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"__saved_model_init_op", "serving_default", "words", "third", "echo", "pairs", "kinds",
                               "half", "sum"}
    words = signatures["words"]
    assert words["method_name"] == "tensorflow/serving/predict"
    assert words["inputs"]["number"].pop("name").startswith("words_number:")
    assert words["inputs"]["number"] == {
        "dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}}
    assert set(words["outputs"]) == {"shout", "raw_bytes", "next"}
    assert signatures["pairs"]["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}


def test_a_version_that_cannot_be_loaded_says_so_and_leaves_the_others_alone(ask: Ask) -> None:
    for _ in range(2):
        status, answer = ask("/v1/models/broken:predict", {"instances": [1]})
        assert (status, answer) == (
            503, {"error": "Model broken version 1 cannot be loaded: see the server's log"})
    state = ask("/v1/models/broken")[1]["model_version_status"][0]
    assert (state["state"], state["status"]["error_code"]) == ("END", "UNAVAILABLE")
    assert ask("/v1/models/toy:predict", {"instances": [[1, 1]]})[0] == 200
