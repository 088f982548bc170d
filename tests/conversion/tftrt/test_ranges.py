"""The ranges file: what is written is read again, and what is no ranges file of this model is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.conversion.tftrt.ranges import RangesFile, read, write
from trt_pipeline.errors import InputError

KNOWN = RangesFile(method="minmax", model_digest="abc", signatures={
    "serve": {"x:0": (-1.5, 2.0), "relu:0": (0.0, 0.30000001192092896)}, "other": {}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "ranges.json", KNOWN)
    return tmp_path / "ranges.json"


def test_what_was_written_is_read_to_the_last_bit(file: Path) -> None:
    assert read(file, "serve", "abc") == {"x:0": (-1.5, 2.0), "relu:0": (0.0, 0.30000001192092896)}
    assert read(file, "other", "abc") == {}


def test_a_signature_that_it_does_not_have_is_none(file: Path) -> None:
    assert read(file, "absent", "abc") is None


def test_people_can_read_it(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert '  "serve": {' in lines
    assert len(json.loads(file.read_text())["signatures"]["serve"]) == 2


def refusal(file: Path, digest: str = "abc") -> str:
    with pytest.raises(InputError) as caught:
        read(file, "serve", digest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_of_another_model_is_refused(file: Path) -> None:
    assert refusal(file, "abd") == f"{file} was made for another model: calibrate this one"


def test_one_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    absent = tmp_path / "absent.json"
    assert refusal(absent) == f"the ranges file {absent} cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"the ranges file {tmp_path} cannot be read: Is a directory"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"method": "minmax"}',
                                     b'{"method": 1, "model_digest": "abc", "signatures": {}, "more": 2}'])
def test_what_is_no_ranges_file_is_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert refusal(file) == f"{file} is no ranges file: calibrate the model to make one"


@pytest.mark.parametrize("ends", [[2.0, -1.5], [float("nan"), 1.0]])
def test_a_range_whose_ends_are_swapped_or_no_numbers_is_named(ends: list[Any], file: Path) -> None:
    content = json.loads(file.read_text())
    content["signatures"]["serve"]["x:0"] = ends
    file.write_text(json.dumps(content))
    assert "the range of x:0 is [" in refusal(file)
    assert refusal(file).endswith("]: the smaller number comes first")
