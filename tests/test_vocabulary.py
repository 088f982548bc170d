"""Ids become the text that the model's own tokenizer makes of them, whichever file the pieces are in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from trt_pipeline import digest, vocabulary
from trt_pipeline.errors import ConfigError
from trt_pipeline.model.contract import SignatureContract, TensorContract
from trt_pipeline.vocabulary import Vocabulary

PIECES = ["<pad>", "</s>", "<unk>", "▁the", "▁fi", "le", "s"]
SPM = Path(__file__).parents[1] / "models/enko/1/assets.extra/spm.model"


def text(ids: object, pieces: list[str] = PIECES, pad: int | None = None) -> str:
    return Vocabulary(dict(enumerate(pieces))).decode(np.array(ids), pad)


@pytest.mark.parametrize(("name", "content"), [
    ("vocab.txt", "\n".join(PIECES) + "\n"),
    ("vocab.txt", "\r\n".join(PIECES)),
    ("spm.vocab", "".join(f"{piece}\t{-0.5 * number:g}\n" for number, piece in enumerate(PIECES))),
    ("vocab.json", json.dumps(PIECES)),
    ("vocab.json", json.dumps({piece: number for number, piece in reversed(list(enumerate(PIECES)))})),
], ids=["lines", "lines of Windows", "lines with scores", "JSON list", "JSON object"])
def test_every_format_says_the_same(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode())
    assert vocabulary.read(file).decode(np.array([3, 4, 5, 6, 1, 4, 0])) == "the files"


def test_a_sentencepiece_model_says_what_sentencepiece_says() -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    own = sentencepiece.SentencePieceProcessor(model_file=str(SPM))
    known = vocabulary.read(SPM)
    for sentence in ("Save the file to {0}.", "파일을 저장합니다", "a ☃ b"):
        ids = own.encode(sentence)
        expected = re.sub(" +", " ", own.decode(ids)).strip()
        assert re.sub(" +", " ", known.decode(np.array([*ids, own.eos_id(), ids[0], own.pad_id()]))) == expected


def test_control_pieces_of_a_model_say_nothing_and_bytes_are_characters(tmp_path: Path) -> None:
    message = vocabulary._model_message()()
    for piece, kind in (("<s>", 3), ("▁caf", 1), ("<0xC3>", 6), ("<0xA9>", 6), ("▁é", 1)):
        message.pieces.add(piece=piece, type=kind)
    (tmp_path / "m.model").write_bytes(message.SerializeToString())
    assert vocabulary.read(tmp_path / "m.model").decode(np.array([0, 1, 2, 3, 4])) == "café é"


@pytest.mark.parametrize(("pieces", "expected"), [
    (["un", "##able", "to"], "unable to"),
    (["un@@", "able", "to"], "unable to"),
    (["a", "b", "<x>"], "ab<x>"),
    (["cat", "dog", "bird"], "cat dog bird"),
])
def test_pieces_are_joined_by_the_marks_of_their_kind(pieces: list[str], expected: str) -> None:
    assert text([0, 1, 2], pieces) == expected


def test_what_is_left_out_and_what_is_not() -> None:
    assert text([3, 4, 5, 0, 0]) == "the file"
    assert text([3, 0, 4]) == "the<pad> fi", "padding amid a row is no padding"
    assert text([3, 99, -1]) == "the<99><-1>"
    assert text(3) == "the" and text([]) == "" and text([[3], [4]]) == "the | fi"
    assert text([1, 2, 2], ["cat", "dog", "none"], pad=2) == "dog"


@pytest.mark.parametrize(("name", "content", "match"), [
    ("vocab.txt", b"", "is empty"),
    ("vocab.json", b'{"a": "b"}', "neither a JSON list"),
    ("vocab.json", b"[]", "neither a JSON list"),
    ("vocab.json", b"[1, 2]", "neither a JSON list"),
    ("vocab.json", b"3", "neither a JSON list"),
    ("vocab.json", b"{", "neither a JSON list"),
    ("vocab.bin", b"\xff\xfe\x00", "no SentencePiece model, nor text"),
    ("spm.model", b"", "no SentencePiece model, nor text"),
])
def test_a_file_that_is_no_vocabulary(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=match) as told:
        vocabulary.read(tmp_path / name)
    assert str(tmp_path / name) in str(told.value) and "\n" not in str(told.value)


def test_names_and_files_are_checked_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(PIECES))
    signature = SignatureContract(
        name="translate", method_name="", inputs={"input": TensorContract(dtype="int64", shape=(None, None))},
        outputs={"outputs": TensorContract(dtype="int32", shape=(None, None)),
                 "scores": TensorContract(dtype="float32", shape=(None,))})
    found = vocabulary.check({"input": file, "translate.outputs": file}, [signature])
    assert found == dict.fromkeys(("input", "translate.outputs"), digest.of_file(file))
    words = vocabulary.read_all({"input": file, "translate.outputs": str(file)})
    assert words["input"] is words["translate.outputs"]
    assert vocabulary.of(words, "translate", "outputs") is words["input"]
    assert vocabulary.of(words, "other", "outputs") is None
    for name, match in (("output", "no signature has as an input or output: there are input, outputs, scores; did "
                                   "you mean 'outputs'"), ("scores", "'scores', which is float32")):
        with pytest.raises(ConfigError, match=match):
            vocabulary.check({name: file}, [signature])
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read: No such file"):
        vocabulary.check({"input": tmp_path / "none.txt"}, [signature])
