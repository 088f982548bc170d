"""A ranges file says what it is for, and one that is wrong is refused in a line that says how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trt_pipeline.calibration import ranges
from trt_pipeline.calibration.ranges import RangesFile, SignatureRanges
from trt_pipeline.errors import InputError

FOUND = RangesFile(method="minmax", model_digest="m", samples_digest="s", count=3, signatures={
    "translate": SignatureRanges(ranges={"while.body/while/MatMul:0": (-1.5, 0.10000000149011612)},
                                 extents={"while.body/while/MatMul:0": (-1.5, 3e38), "x:0": (0, 0)})})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ranges.write(tmp_path / "ranges.json", FOUND)
    return tmp_path / "ranges.json"


def changed(file: Path, change: Any) -> None:
    known = json.loads(file.read_text())
    change(known)
    file.write_text(json.dumps(known))


def refused(file: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as told:
        ranges.read(file, "m")
    assert str(file) in str(told.value) and "\n" not in str(told.value)


def test_it_comes_back_to_the_bit_and_has_a_line_a_tensor(file: Path) -> None:
    assert ranges.read(file, "m") == FOUND
    lines = file.read_text().splitlines()
    assert sum("MatMul:0" in line for line in lines) == 2
    assert '"while.body/while/MatMul:0": [-1.5, 0.10000000149011612]' in file.read_text()


def test_of_another_model(file: Path) -> None:
    with pytest.raises(InputError, match="another model"):
        ranges.read(file, "other")


def test_an_inverted_range(file: Path) -> None:
    changed(file, lambda known: known["signatures"]["translate"]["ranges"].update({"y:0": [2, 1]}))
    refused(file, r"signature translate: the range of y:0 is \[2.0, 1.0\]: the smaller number comes first")


@pytest.mark.parametrize("bounds", ["[NaN, 1]", "[-Infinity, 1]", "[0, 1e999]"])
def test_a_range_that_is_not_finite(file: Path, bounds: str) -> None:
    file.write_text(file.read_text().replace("[-1.5, 0.10000000149011612]", bounds))
    refused(file, "the range of while.body/while/MatMul:0|is no ranges file")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"format": 2}', b"null"])
def test_garbage(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    refused(file, "is no ranges file")


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.json", "cannot be read")


def test_a_range_of_one_number_and_an_unknown_key(file: Path) -> None:
    changed(file, lambda known: known.update({"methode": "mse"}))
    refused(file, "is no ranges file")


def test_what_has_no_range_has_its_extent_and_what_was_never_seen_none() -> None:
    one = FOUND.signature("translate", Path("f"))
    assert one.of("while.body/while/MatMul:0") == (-1.5, 0.10000000149011612)
    assert one.of("x:0") == (0, 0)
    assert one.of("y:0") is None


def test_a_signature_that_was_not_calibrated() -> None:
    with pytest.raises(InputError, match="no ranges for signature score: it has translate; calibrate"):
        FOUND.signature("score", Path("ranges.json"))
