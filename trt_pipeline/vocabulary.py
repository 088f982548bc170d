"""The pieces that a model's ids stand for, so that reports show words where the model says numbers.

A vocabulary file is one of:

- text, one piece a line, the first with id 0; a score after a tab, as SentencePiece writes beside its models, is left
  out;
- JSON in a file that is called .json, a list of pieces or ``{piece: id}``;
- a SentencePiece model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trt_pipeline import digest
from trt_pipeline.errors import ConfigError
from trt_pipeline.model.contract import SignatureContract
from trt_pipeline.suggest import did_you_mean

Array = npt.NDArray[Any]
_SPACE = "\u2581"  # what SentencePiece writes for a space
_ENDS = frozenset({"</s>", "<eos>", "<EOS>", "<|endoftext|>", "<|im_end|>", "[EOS]", "<end>"})
_PADS = frozenset({"<pad>", "<PAD>", "[PAD]", "<blank>"})
_SCORED = re.compile(r"\t-?[0-9.]+(e-?[0-9]+)?$")
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_BYTES = re.compile("(?:<0x[0-9A-F]{2}>)+")
_IDS = ("int", "uint")


class Vocabulary:
    """Ids and their pieces."""

    def __init__(self, pieces: Mapping[int, str], silent: Iterable[int] = ()) -> None:
        """
        Args:
            pieces: by id.
            silent: ids that stand for no text, such as the beginning of a sentence.
        """
        self._pieces, self._silent = pieces, frozenset(silent)
        self._ends = {number for number, piece in pieces.items() if piece in _ENDS}
        self._pad = next((number for number, piece in pieces.items() if piece in _PADS), None)
        self._join = _joining(list(pieces.values()))

    def decode(self, ids: Array, pad: int | None = None) -> str:
        """The text of ``ids``, integers of any shape: the rows of the last axis, separated by " | ".

        A row ends before its first end-of-sentence piece, and before the padding at its end. An id without a piece
        is shown as ``<id>``.

        Args:
            pad: the id that fills rows up, where it is known; by default the piece that is called so.
        """
        rows = ids.reshape(-1, ids.shape[-1]) if ids.size and ids.ndim else ids.reshape(1, -1)
        return " | ".join(self._row([int(number) for number in row], self._pad if pad is None else pad)
                          for row in rows)

    def _row(self, ids: list[int], pad: int | None) -> str:
        end = next((place for place, number in enumerate(ids) if number in self._ends), len(ids))
        while end and ids[end - 1] == pad:
            end -= 1
        return self._join([self._pieces.get(number, f"<{number}>") for number in ids[:end]
                           if number not in self._silent])


def read(file: Path) -> Vocabulary:
    """The vocabulary in ``file``.

    Raises:
        ConfigError: it cannot be read, or is no vocabulary.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"the vocabulary {file} cannot be read: {error.strerror}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or file.suffix == ".model":
        return _sentencepiece(content, file)
    return Vocabulary(_of_json(text, file) if file.suffix == ".json" else _of_text(text, file))


def read_all(files: Mapping[str, str | Path]) -> dict[str, Vocabulary]:
    """The vocabularies in ``files``, by the names given, each file read once. Raises ConfigError as `read`."""
    known: dict[Path, Vocabulary] = {}
    for file in map(Path, files.values()):
        known[file] = known.get(file) or read(file)
    return {name: known[Path(file)] for name, file in files.items()}


def of(vocabularies: Mapping[str, Vocabulary], signature: str, name: str) -> Vocabulary | None:
    """The vocabulary of one input or output, which is named ``signature.name`` or ``name``."""
    return vocabularies.get(f"{signature}.{name}") or vocabularies.get(name)


def check(files: Mapping[str, Path], signatures: Iterable[SignatureContract]) -> dict[str, str]:
    """See that every vocabulary can be read and is of an input or output of ``signatures`` that holds ids.

    Returns:
        The digests of the files by name, for the keys of stages whose results show text.

    Raises:
        ConfigError: as `read`, or there is no such input or output, or it holds no integers.
    """
    known = {name: tensor.dtype for signature in signatures
             for own in (signature.inputs, signature.outputs) for plain, tensor in own.items()
             for name in (plain, f"{signature.name}.{plain}")}
    for name in files:
        if name not in known:
            listed = [one for one in known if "." not in one] or list(known)
            raise ConfigError(f"vocabulary names '{name}', which no signature has as an input or output: there are "
                              f"{', '.join(listed)}{did_you_mean(name, known)}")
        if not known[name].startswith(_IDS):
            raise ConfigError(f"vocabulary names '{name}', which is {known[name]}: a vocabulary is of integers, which "
                              "are ids")
    read_all(files)
    return {name: digest.of_file(file) for name, file in files.items()}


def _of_json(text: str, file: Path) -> dict[int, str]:
    wrong = ConfigError(f"the vocabulary {file} is neither a JSON list of pieces nor {{piece: id}}")
    try:
        value = json.loads(text)
        pieces = dict(enumerate(value)) if isinstance(value, list) else {own: piece for piece, own in value.items()}
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise wrong from None
    if not pieces or not all(type(number) is int and type(piece) is str for number, piece in pieces.items()):
        raise wrong
    return pieces


def _of_text(text: str, file: Path) -> dict[int, str]:
    if not text.strip():
        raise ConfigError(f"the vocabulary {file} is empty: it has a piece a line")
    # Not splitlines: a piece may be one of the rarer line separators.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if all(map(_SCORED.search, lines)):
        lines = [_SCORED.sub("", line) for line in lines]
    return dict(enumerate(lines))


def _sentencepiece(content: bytes, file: Path) -> Vocabulary:
    """The pieces of a SentencePiece model; those of control say nothing."""
    from google.protobuf.message import DecodeError

    unknown, control = 2, 3
    try:
        pieces = list(_model_message().FromString(content).pieces)
    except DecodeError:
        pieces = []
    if not pieces:
        raise ConfigError(f"the vocabulary {file} is no SentencePiece model, nor text: give one piece a line, JSON or "
                          "a SentencePiece model")
    known = {number: "\u2047" if piece.type == unknown else piece.piece for number, piece in enumerate(pieces)}
    return Vocabulary(known, [number for number, piece in enumerate(pieces) if piece.type == control])


def _joining(pieces: list[str]) -> Callable[[list[str]], str]:
    """How the pieces of a text become one: by the marks that this vocabulary has for what belongs together."""
    if any(piece.startswith(_SPACE) for piece in pieces):
        return lambda row: _BYTES.sub(_characters, "".join(row)).replace(_SPACE, " ").strip()
    if any(piece.startswith("##") and len(piece) > 2 for piece in pieces):  # WordPiece
        return lambda row: " ".join(row).replace(" ##", "")
    if any(piece.endswith("@@") and len(piece) > 2 for piece in pieces):  # subword-nmt
        return lambda row: " ".join(row).replace("@@ ", "")
    if all(len(piece) == 1 or piece[:1] in "<[" for piece in pieces):
        return "".join
    return " ".join


def _characters(found: re.Match[str]) -> str:
    """The characters of a run of byte pieces."""
    return bytes(int(number, 16) for number in _BYTE.findall(found.group())).decode(errors="replace")


def _model_message() -> Any:
    """The part of sentencepiece_model.proto's ModelProto that holds the pieces.

    The package sentencepiece has it whole, but is an encoder besides, for which nothing else asks.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    proto = descriptor_pb2.FileDescriptorProto(name="trt_pipeline/vocabulary.proto", package="trt_pipeline")
    piece = proto.message_type.add(name="Piece")
    piece.field.add(name="piece", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    # An enumeration, of which 1, an ordinary piece, is the default.
    piece.field.add(name="type", number=3, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL, default_value="1")
    model = proto.message_type.add(name="Model")
    model.field.add(name="pieces", number=1, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED,
                    type_name=".trt_pipeline.Piece")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("trt_pipeline.Model"))
