"""functiongemma: `<start_function_call>call:NAME{KEY:VALUE,…}<end_function_call>`, strings between `<escape>`.

Source: ollama model/parsers/functiongemma.go, 2026-08. Departures, where Ollama loses what the model wrote: arguments
may have line breaks, a bare value that only begins like a number (`2026-01-05`) is text, `[]` is a list, not null.
"""

from __future__ import annotations

import re
from typing import Any

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.arguments import number
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.nested import Dialect
from corral.answer.parsers.pieces import BLANKS, Marks

_CALL, _CALL_END = "<start_function_call>", "<end_function_call>"
_ESCAPE = "<escape>"
_CONTENT = Mode(Kind.CONTENT, Marks(_CALL), hold_blanks=False)
_CALLING = Mode(Kind.COLLECTED, Marks(_CALL_END))
_WRITTEN = re.compile(r"call:([^{]+)\{(.*)\}", re.DOTALL)


class FunctionGemmaParser(MarkedParser):
    """As in Ollama, what stands between the tags and is no call is a call without a name (and a Notice)."""

    def __init__(self) -> None:
        super().__init__(_CONTENT)

    def _meet(self, mark: str, text: str) -> None:
        if mark == _CALL:
            self._enter(_CALLING)
            return
        self._read_call(text)
        self._enter(_CONTENT)

    def _end(self, text: str, partial: str) -> None:
        self._unread(_CALL + text + partial)

    def _read_call(self, text: str) -> None:
        written = _WRITTEN.search(text)
        try:
            arguments = dict(_DIALECT.members(written[2], ":")) if written else {}
        except Unreadable as error:
            self._unread(_CALL + text + _CALL_END, str(error))
            return
        if written is None:
            self._unread(_CALL + text + _CALL_END)
        self._call(written[1] if written else "", arguments)


def _scalar(text: str) -> Any:
    if len(text) >= 2 * len(_ESCAPE) and text.startswith(_ESCAPE) and text.endswith(_ESCAPE):
        return text[len(_ESCAPE) : -len(_ESCAPE)]
    if text in ("true", "false"):
        return text == "true"
    value = number(text.strip(BLANKS))
    return text if value is None else value


_DIALECT = Dialect(re.compile(r"<escape>.*?(?:<escape>|\Z)|[\[{\]},]", re.DOTALL), _scalar, str, blanks=False)
