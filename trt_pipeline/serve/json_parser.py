"""JSON as RapidJSON 1.1, which TensorFlow Serving has, reads it, and its words for what is none.

Python's own parser does the work; only what it refuses is read again, by the one here, which knows RapidJSON's
errors and offsets and the numbers that it takes beyond the standard: ``Inf``, ``-NaN``.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from trt_pipeline.serve.refusal import invalid

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_WHOLE = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_DIGITS = re.compile(rb"[0-9]+")
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {b'"': '"', b"/": "/", b"\\": "\\", b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t"}
_WORDS: dict[bytes, tuple[bytes, Any]] = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}


def parse(text: bytes) -> Any:
    """The value that ``text``, in UTF-8, spells. Bytes in strings that are no UTF-8 are kept as surrogates.

    Raises:
        RefusalError: INVALID_ARGUMENT, it is no JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), parse_float=_finite)
    except ValueError:
        return _Reader(text).document()


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError
    return value


class _Reader:
    """Recursive descent over bytes, each step as RapidJSON takes it, so that errors have its offsets."""

    def __init__(self, text: bytes) -> None:
        self._text, self._at = text, 3 if text.startswith(b"\xef\xbb\xbf") else 0

    def document(self) -> Any:
        self._skip()
        if not self._peek():
            self._fail("The document is empty.")
        value = self._value()
        self._skip()
        if self._peek():
            self._fail("The document root must not be followed by other values.")
        return value

    def _value(self) -> Any:
        first = self._peek()
        if first == b"{":
            return self._object()
        if first == b"[":
            return self._array()
        if first == b'"':
            return self._string()
        if first in _WORDS:
            word, value = _WORDS[first]
            self._expect(word)
            return value
        return self._number()

    def _object(self) -> dict[str, Any]:
        self._at += 1
        self._skip()
        members: dict[str, Any] = {}
        if self._consume(b"}"):
            return members
        while True:
            if self._peek() != b'"':
                self._fail("Missing a name for object member.")
            name = self._string()
            self._skip()
            if not self._consume(b":"):
                self._fail("Missing a colon after a name of object member.")
            self._skip()
            members[name] = self._value()
            self._skip()
            if self._consume(b"}"):
                return members
            if not self._consume(b","):
                self._fail("Missing a comma or '}' after an object member.")
            self._skip()

    def _array(self) -> list[Any]:
        self._at += 1
        self._skip()
        items: list[Any] = []
        if self._consume(b"]"):
            return items
        while True:
            items.append(self._value())
            self._skip()
            if self._consume(b"]"):
                return items
            if not self._consume(b","):
                self._fail("Missing a comma or ']' after an array element.")
            self._skip()

    def _string(self) -> str:
        self._at += 1
        pieces = []
        while True:
            plain = self._match(_PLAIN)
            pieces.append(plain.decode("utf-8", "surrogateescape"))
            if self._consume(b'"'):
                return "".join(pieces)
            if not self._peek():
                self._fail("Missing a closing quotation mark in string.")
            if self._peek() != b"\\":
                self._fail("Invalid escape character in string.")
            pieces.append(self._escape())

    def _escape(self) -> str:
        begin = self._at
        self._at += 1
        letter = self._peek()
        self._at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != b"u":
            self._fail("Invalid escape character in string.", begin)
        code = self._hex(begin)
        if 0xD800 <= code <= 0xDBFF:
            low = self._hex(begin) if self._consume(b"\\u") else 0
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail("The surrogate pair in string is invalid.", begin)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code)

    def _hex(self, begin: int) -> int:
        digits = self._match(_HEX)
        if not digits:
            self._fail("Incorrect hex digit after \\u escape in string.", begin)
        return int(digits, 16)

    def _number(self) -> int | float:
        begin = self._at
        whole = self._match(_WHOLE)
        if not whole:
            return self._not_finite()
        fraction = self._consume(b".")
        if fraction and not self._match(_DIGITS):
            self._fail("Miss fraction part in number.")
        exponent = self._consume(b"e") or self._consume(b"E")
        if exponent:
            if not self._consume(b"+"):
                self._consume(b"-")
            if not self._match(_DIGITS):
                self._fail("Miss exponent in number.")
        text = self._text[begin:self._at]
        value = float(text)
        if math.isinf(value):
            self._fail("Number too big to be stored in double.", begin)
        return value if fraction or exponent or abs(value) >= 2.0**65 else int(text)

    def _not_finite(self) -> float:
        sign = -1.0 if self._consume(b"-") else 1.0
        if self._peek() == b"N":
            self._expect(b"NaN")
            return math.nan
        if self._peek() != b"I":
            self._fail("Invalid value.")
        self._expect(b"Inf")
        if self._peek() == b"i":
            self._expect(b"inity")
        return sign * math.inf

    def _expect(self, word: bytes) -> None:
        for index in range(len(word)):
            if not self._consume(word[index:index + 1]):
                self._fail("Invalid value.")

    def _peek(self) -> bytes:
        """The next byte; empty at the end and at a NUL, which RapidJSON takes for one."""
        found = self._text[self._at:self._at + 1]
        return b"" if found == b"\0" else found

    def _consume(self, word: bytes) -> bool:
        found = self._text.startswith(word, self._at)
        self._at += len(word) if found else 0
        return found

    def _match(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found[0] if found else b""

    def _skip(self) -> None:
        self._match(_SPACE)

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        raise invalid(f"JSON Parse error: {message} at offset: {self._at if at is None else at}")
