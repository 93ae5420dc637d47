"""olmo3: `<function_calls>`, a call a line as `name(key="value", …)`, `</function_calls>`; olmo3-think: only thinking.

Source: ollama model/parsers/olmo3.go, olmo3_think.go, 2026-08. Departures: a line that is no call does not take the
others with it, a second section right behind the first counts, and see nested.py.
"""

from __future__ import annotations

import re
from typing import Any

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.arguments import integer, number
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.nested import STRINGS, Dialect
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.answer.parsers.qwen35 import THINK_END

_CALLS, _CALLS_END = "<function_calls>", "</function_calls>"
_CONTENT = Mode(Kind.CONTENT, Marks(_CALLS), hold_blanks=False)
_CALLING = Mode(Kind.COLLECTED, Marks(_CALLS_END))
_THINKING = Mode(Kind.THINKING, Marks(THINK_END))
_ANSWER = Mode(Kind.CONTENT, hold_blanks=False)
_LINE = re.compile(r"([0-9A-Za-z_]+)\((.*)\)")
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None, "nil": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}
_ESCAPED = re.compile(r"""\\([ntr"'\\])""")


class Olmo3Parser(MarkedParser):
    """Content and calls."""

    def __init__(self) -> None:
        super().__init__(_CONTENT)

    def _meet(self, mark: str, text: str) -> None:
        if mark == _CALLS:
            self._enter(_CALLING)
            return
        for line in text.split("\n"):
            if line.strip(BLANKS):
                self._read_call(line.strip(BLANKS))
        self._enter(_CONTENT)

    def _end(self, text: str, partial: str) -> None:
        self._unread(_CALLS + text + partial)

    def _read_call(self, line: str) -> None:
        written = _LINE.fullmatch(line)
        try:
            if written is None:
                raise Unreadable("invalid function call format")
            self._call(written[1], dict(_DIALECT.members(written[2], "=")))
        except Unreadable as error:
            self._unread(line, str(error))


class Olmo3ThinkParser(MarkedParser):
    """Thinking up to its closing tag, then content. `thinks`: the answer begins inside the thinking."""

    def __init__(self, *, thinks: bool) -> None:
        super().__init__(_THINKING if thinks else _ANSWER)

    def _meet(self, mark: str, text: str) -> None:
        self._enter(_ANSWER, skip_blanks=True)


def _quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def _scalar(text: str) -> Any:
    if _quoted(text):
        return _ESCAPED.sub(lambda escape: _ESCAPES[escape[1]], text[1:-1])
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    whole = integer(text)
    value = number(text) if whole is None else whole
    return text if value is None else value


def _key(text: str) -> str:
    text = text.strip(BLANKS)
    return text[1:-1] if _quoted(text) else text


_DIALECT = Dialect(re.compile(STRINGS + r"|[()\[\]{},]", re.DOTALL), _scalar, _key, blanks=True)
