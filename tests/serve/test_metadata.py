"""What status and metadata say over REST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., tuple[int, Any]]
Raw = Callable[..., tuple[int, bytes]]


@pytest.mark.parametrize("path", ["/v1/models/toy/versions/10", "/v1/models/t%6fy/versions/10/METADATA",
                                  "/V1/models/toy/versions/10"])
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


def test_a_label_is_nothing_to_status(ask: Ask) -> None:
    assert ask("/v1/models/toy/labels/any") == ask("/v1/models/toy")


@pytest.mark.parametrize("path", ["/v1/models/toy/metadata", "/v1/models/toy/versions/10/metadata"])
def test_metadata(ask: Ask, path: str) -> None:
    status, answer = ask(path)
    assert status == 200
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "10"}
    assert list(answer["metadata"]) == ["signature_def"]
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"__saved_model_init_op", "serving_default", "words", "third", "echo", "pairs", "kinds",
                               "half", "sum", "classify", "scores", "regress", "flat"}
    words = signatures["words"]
    assert words["method_name"] == "tensorflow/serving/predict"
    assert words["inputs"]["number"].pop("name").startswith("words_number:")
    assert words["inputs"]["number"] == {
        "dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}}
    assert set(words["outputs"]) == {"shout", "raw_bytes", "next"}
    assert signatures["pairs"]["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
