from __future__ import annotations

from pathlib import Path

import pytest

from trt_pipeline.errors import InputError, OutputError
from trt_pipeline.islands.file import read, write
from trt_pipeline.islands.islands import Islands, SignatureIslands
from trt_pipeline.islands.search import Point

ISLANDS = Islands(candidate="onnxruntime/int8", precision="int8", model_digest="d1", signatures={
    "serve": SignatureIslands(nodes=("a/MatMul", "while.body/b"), of=33, passed=True, before=9.97, after=0.75,
                              curve=(Point(raised=0, distance=9.97, passed=False),
                                     Point(raised=2, distance=0.75, passed=True))),
    "other": SignatureIslands(nodes=(), of=4, passed=True, before=0.1, after=0.1)})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "islands.yaml"
    write(file, ISLANDS)
    assert read(file, "d1", "onnxruntime/int8") == ISLANDS
    assert [path.name for path in tmp_path.iterdir()] == ["islands.yaml"]
    text = file.read_text()
    assert "- a/MatMul\n" in text and "- {raised: 2, distance: 0.75, passed: true}\n" in text
    assert ISLANDS.raised == {"serve": ("a/MatMul", "while.body/b")} and ISLANDS.passed


def test_a_person_may_leave_out_the_curve(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{candidate: c, precision: int8, model_digest: d1, signatures: "
                    "{serve: {nodes: [n], of: 2, passed: true, before: 2, after: 1}}}")
    assert read(file, "d1").raised == {"serve": ("n",)}


@pytest.mark.parametrize(("content", "reason"), [
    ("", "is no islands file: the file"),
    ("- a\n- b\n", "is no islands file: the file"),
    ("a: [", "it is not YAML"),
    ("\x00", "it is not YAML"),
    ("candidate: c\n", "is no islands file: precision: Field required"),
    ("{candidate: c, precision: int8, model_digest: d1, nodez: 1, signatures: {}}", "nodez: Extra inputs"),
    ("{candidate: c, precision: int8, model_digest: d1, signatures: {s: {nodes: [n, n], of: 2, passed: true, "
     "before: 2, after: 1}}}", "signatures.s: Value error, a node is named twice"),
    ("{candidate: c, precision: int8, model_digest: other, signatures: {}}", "was made for another model"),
    ("{candidate: c, precision: int8, model_digest: d1, signatures: {}}", "holds the islands of c, not of x/int8"),
])
def test_bad_files_are_named_in_one_line(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        read(file, "d1", "x/int8")
    assert reason in str(caught.value) and str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InputError, match="no islands file"):
        read(tmp_path / "bad.yaml", "d1")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read(tmp_path / "none.yaml", "d1")


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "no" / "islands.yaml", ISLANDS)


def test_unknown_nodes_and_signatures_are_named_with_the_nearest(tmp_path: Path) -> None:
    nodes = frozenset({"a/MatMul", "while.body/c"})
    with pytest.raises(InputError, match=r"signature serve has no node while.body/b; did you mean 'while.body/c'\?"):
        ISLANDS.check({"serve": nodes, "other": frozenset()}, tmp_path)
    with pytest.raises(InputError, match="the model has no signature other"):
        ISLANDS.check({"serve": nodes | {"while.body/b"}}, tmp_path)
    ISLANDS.check({"serve": nodes | {"while.body/b"}, "other": frozenset()}, tmp_path)
