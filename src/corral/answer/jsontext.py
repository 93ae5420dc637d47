"""JSON in answers, read with the meaning and the words of Go's decoder, whose error texts are Ollama's.

`Unreadable` says what is wrong. The value comes from Python's decoder; the scan for Go's words happens only after that
failed. It keeps its own stack, so nesting is no danger; arguments nested deeper than `_DEEPEST` are refused, since what
becomes of them later (templates, encoders) does recurse. Source: Go encoding/json scanner.go, decode.go, 1.26.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from corral.goquote import quote

_DEEPEST = 100
_GO_DEEPEST = 10000
_SCANNED = 64 * 1024  # characters; what is wrong with longer texts is told in Python's words, for the scan is slow
_SIGNS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{\]}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(r'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
_NOT_AN_OBJECT = "Value looks like object, but can't find closing '}' symbol"  # of the package that Ollama's maps use


class Unreadable(Exception):
    """Why a text is no call, in Ollama's words."""


def loads(text: str) -> Any:
    """The value of a JSON text; raises Unreadable."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_float)
    except (ValueError, RecursionError) as error:
        raise Unreadable(_problem(text) or str(error)) from None
    if isinstance(value, dict | list):
        if text.count("{") + text.count("[") > _DEEPEST and _depth(text) > _DEEPEST:
            raise Unreadable("exceeded max depth")
        if _SURROGATE_ESCAPE.search(text):
            return _without_halves(value)
    return value


def loads_arguments(text: str) -> dict[str, Any]:
    """The arguments of a call, which must be an object; null is one without members."""
    return _object(loads(text))


def loads_call(text: str, go_type: str, field: str = "") -> tuple[str, dict[str, Any]]:
    """Name and arguments of `{"name": …, "arguments": {…}}`; either may be absent. Keys match in any case, as in Go.

    go_type, field: how Go's error texts call the record and what stands before the names of its fields.
    """
    value = loads(text)
    if value is None:
        return "", {}
    if not isinstance(value, dict):
        raise Unreadable(f"json: cannot unmarshal {_kind(value)} into Go value of type {go_type}")
    record = {key.lower(): member for key, member in value.items()}
    arguments = _object(record.get("arguments", {}))
    return text_member(record, "name", field), arguments


def text_member(record: Mapping[str, Any], key: str, field: str = "") -> str:
    """A member that must be a string; "" when it is absent or null."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"json: cannot unmarshal {_kind(value)} into Go struct field {field}.{key} of type string")
    return value


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(_NOT_AN_OBJECT)
    return value


def _kind(value: Any) -> str:
    """Go's word for what a value is in JSON."""
    kinds: dict[type, str] = {bool: "bool", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "number")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"json: cannot unmarshal number {text[:40]} into Go value of type float64")
    return value


def _depth(text: str) -> int:
    deepest = depth = 0
    for sign in _SIGNS.finditer(text):
        char = sign.group()
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _without_halves(value: Any) -> Any:
    """The value with U+FFFD for halves of characters, which no encoder takes. Its depth is known to be small."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(item) for key, item in value.items()}
    return value


def _problem(text: str) -> str:
    """What Go's scanner says of the first character that is wrong; "" when nothing is."""
    if len(text) > _SCANNED:
        return ""
    try:
        _Scan(text).value()
    except Unreadable as error:
        return str(error)
    return ""


class _Scan:
    """Go's scanner as far as its error texts go. What it sees at the end is a blank, then the end, as in Go."""

    def __init__(self, text: str) -> None:
        self._text = text + " "
        self._at = 0

    def value(self) -> None:
        """The whole text: one value and blanks."""
        closers: list[str] = []
        context = "looking for beginning of value"
        while True:
            self._begin(closers, context)
            context = self._after(closers)
            if not context:
                return

    def _begin(self, closers: list[str], context: str) -> None:
        """The beginning of a value, up to the end of a scalar one or into the innermost that is not empty."""
        while True:
            char = self._next()
            if char not in "{[":
                self._scalar(char, context)
                return
            closers.append("}" if char == "{" else "]")
            if len(closers) > _GO_DEEPEST:
                raise Unreadable("exceeded max depth")
            if self._peek() == closers[-1]:
                self._next()
                closers.pop()
                return
            if char == "{":
                self._key()
            context = "looking for beginning of value"

    def _after(self, closers: list[str]) -> str:
        """What may stand behind a value; the context of the next one, or "" at the end."""
        while closers:
            char = self._next()
            inside = closers[-1]
            if char == inside:
                closers.pop()
            elif char != ",":
                self._fail("after object key:value pair" if inside == "}" else "after array element")
            else:
                if inside == "}":
                    self._key()
                return "looking for beginning of value"
        if self._peek():
            self._next()
            self._fail("after top-level value")
        return ""

    def _key(self) -> None:
        if self._next() != '"':
            self._fail("looking for beginning of object key string")
        self._string()
        if self._next() != ":":
            self._fail("after object key")

    def _scalar(self, char: str, context: str) -> None:
        words = {"t": "true", "f": "false", "n": "null"}
        if char == '"':
            self._string()
        elif char in words:
            for want in words[char][1:]:
                if self._raw() != want:
                    self._fail(f"in literal {words[char]} (expecting {_quoted(want)})")
        elif char == "-" or (char.isdigit() and char.isascii()):
            self._number(char)
        else:
            self._fail(context)

    def _string(self) -> None:
        run = _STRING.match(self._text, self._at)
        assert run is not None
        self._at = run.end()
        char = self._raw()
        if char == '"':
            return
        if char != "\\":
            self._fail("in string literal")
        if self._raw() != "u":
            self._fail("in string escape code")
        while self._raw() in "0123456789abcdefABCDEF":
            pass
        self._fail("in \\u hexadecimal character escape")

    def _number(self, char: str) -> None:
        if char == "-":
            char = self._digit("in numeric literal")
        if char != "0":
            self._digits()
        if self._text[self._at : self._at + 1] == ".":
            self._at += 1
            self._digit("after decimal point in numeric literal")
            self._digits()
        if self._text[self._at : self._at + 1] in ("e", "E"):
            self._at += 1
            if self._text[self._at : self._at + 1] in ("+", "-"):
                self._at += 1
            self._digit("in exponent of numeric literal")
            self._digits()

    def _digit(self, context: str) -> str:
        char = self._raw()
        if not (char.isdigit() and char.isascii()):
            self._fail(context)
        return char

    def _digits(self) -> None:
        while self._text[self._at : self._at + 1].isdigit() and self._text[self._at].isascii():
            self._at += 1

    def _peek(self) -> str:
        """The next character that is no blank; "" at the end."""
        while self._text[self._at : self._at + 1] in (" ", "\t", "\r", "\n"):
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        self._peek()
        return self._raw()

    def _raw(self) -> str:
        char = self._text[self._at : self._at + 1]
        if not char:
            raise Unreadable("unexpected end of JSON input")
        self._at += 1
        return char

    def _fail(self, context: str) -> NoReturn:
        raise Unreadable(f"invalid character {_quoted(self._text[self._at - 1])} {context}")


def _quoted(char: str) -> str:
    """A character as Go's scanner shows it, which goes by bytes."""
    return quote(chr(char.encode("utf-8", "replace")[0]), "'")
