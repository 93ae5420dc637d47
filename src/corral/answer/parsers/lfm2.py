"""lfm2, lfm2-thinking: `<|tool_call_start|>[name(key="value", …), …]<|tool_call_end|>`, calls in Python's form.

With thinking the model decides per turn: a `<think>` at the very beginning, or an answer at once. Strings stand as the
model wrote them, escapes included, as in Ollama. Source: ollama model/parsers/lfm2.go, 2026-08. Departure: a block that
is no call does not hide what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from corral.answer.jsontext import Unreadable, loads
from corral.answer.parsers.arguments import integer, number
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.nested import STRINGS
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.answer.parsers.qwen35 import THINK, THINK_END

_CALLS, _CALLS_END = "<|tool_call_start|>", "<|tool_call_end|>"
_THINKING = Mode(Kind.THINKING, Marks(THINK_END))
_CONTENT = Mode(Kind.CONTENT, Marks(_CALLS), end_blanks=True)
_CALLING = Mode(Kind.COLLECTED, Marks(_CALLS_END))

_PARENTHESES = re.compile(STRINGS + r"|[()]", re.DOTALL)
_SIGNS = re.compile(STRINGS + r"|[()\[\]{},]", re.DOTALL)
_KEY = re.compile(rf"[,{BLANKS}]*([^=,]*)")
_BLANK_RUN = re.compile(f"[{BLANKS}]*")
_STRING = re.compile(r""""([^"\\]*+(?:\\.[^"\\]*+)*+)"|'([^'\\]*+(?:\\.[^'\\]*+)*+)'""", re.DOTALL)
_PYTHON = re.compile(_STRING.pattern + r"""|["'].*|[A-Za-z_][A-Za-z_0-9]*""", re.DOTALL)
_CONSTANTS = {"": "", "true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_IN_JSON = {"True": "true", "False": "false", "None": "null"}


class LFM2Parser(MarkedParser):
    """`may_think`: the answer may begin with its thinking."""

    def __init__(self, *, may_think: bool) -> None:
        super().__init__(_CONTENT)
        if may_think:
            self._await(THINK, _THINKING, drops_blanks=True)

    def _meet(self, mark: str, text: str) -> None:
        if mark == _CALLS:
            self._enter(_CALLING)
            return
        if mark == _CALLS_END:
            self._read_calls(text)
        self._enter(_CONTENT, skip_blanks=True)

    def _end(self, text: str, partial: str) -> None:
        self._unread(_CALLS + text + partial)

    def _read_calls(self, text: str) -> None:
        try:
            for name, arguments in list(_calls(text.strip(BLANKS).removeprefix(_CALLS).strip(BLANKS))):
                self._call(name, arguments)
        except Unreadable as error:
            self._unread(_CALLS + text + _CALLS_END, str(error))


def _calls(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    at, end = 0, len(text)
    if text.startswith("[") and text.endswith("]") and end > 1:
        at, end = 1, end - 1
    at = _over_blanks(text, at, end)
    if at == end:
        raise Unreadable("no tool calls found")
    while at < end:
        opening = text.find("(", at, end)
        name = text[at:opening].strip(BLANKS)
        if opening < 0:
            raise Unreadable("invalid tool call: no opening parenthesis")
        if not name:
            raise Unreadable("invalid tool call: empty function name")
        closing = _closing(text, opening, end)
        yield name, dict(_arguments(text[opening + 1 : closing]))
        at = _over_blanks(text, closing + 1, end)
        if text.startswith(",", at, end):
            at = _over_blanks(text, at + 1, end)


def _over_blanks(text: str, at: int, end: int) -> int:
    run = _BLANK_RUN.match(text, at, end)
    assert run is not None  # the pattern matches nothing, too
    return run.end()


def _closing(text: str, opening: int, end: int) -> int:
    """Where the parenthesis is closed."""
    depth = 0
    for sign in _PARENTHESES.finditer(text, opening, end):
        if sign.group() == "(":
            depth += 1
        elif sign.group() == ")":
            depth -= 1
            if depth == 0:
                return sign.start()
    raise Unreadable("invalid tool call: no matching closing parenthesis")


def _arguments(text: str) -> Iterator[tuple[str, Any]]:
    at = 0
    while True:
        key = _KEY.match(text, at)
        assert key is not None
        at = key.end()
        if at == len(text) and not key[1]:
            return
        if at == len(text) or text[at] != "=":
            raise Unreadable("invalid argument: expected '='")
        if not key[1].strip(BLANKS):
            raise Unreadable("invalid argument: empty key")
        at = _over_blanks(text, at + 1, len(text))
        if at == len(text):
            raise Unreadable("invalid argument: missing value")
        value, at = _value(text, at)
        yield key[1].strip(BLANKS), value


def _value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins here, and where it ends: a string at its quote, anything else at the next outer comma."""
    if text[at] in "\"'":
        string = _STRING.match(text, at)
        if string is None:
            raise Unreadable("invalid argument: unterminated string")
        return string[1] if string[1] is not None else string[2], string.end()
    end = _comma(text, at)
    return _literal(text[at:end].strip(BLANKS)), end


def _comma(text: str, at: int) -> int:
    depths = {"(": 0, "[": 0, "{": 0}
    opening = {")": "(", "]": "[", "}": "{"}
    for sign in _SIGNS.finditer(text, at):
        char = sign.group()
        if char in depths:
            depths[char] += 1
        elif char in opening:
            depths[opening[char]] = max(0, depths[opening[char]] - 1)
        elif char == "," and not any(depths.values()):
            return sign.start()
    return len(text)


def _literal(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    whole = integer(text)
    value = number(text) if whole is None else whole
    if value is not None:
        return value
    if text[0] not in "[{":
        return text
    for written in (text, _PYTHON.sub(_as_json, text)):
        try:
            return loads(written)
        except Unreadable:
            continue
    return text


def _as_json(found: re.Match[str]) -> str:
    """A piece of a Python literal as JSON writes it."""
    double, single = found[1], found[2]
    if single is not None:
        return '"' + re.sub(r'(\\.)|"', lambda sign: sign[1] or '\\"', single, flags=re.DOTALL) + '"'
    return found.group() if double is not None else _IN_JSON.get(found.group(), found.group())
