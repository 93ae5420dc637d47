"""ministral: `[TOOL_CALLS]NAME[ARGS]{…}`, the arguments ending with their own last bracket; `[THINK]…[/THINK]`.

Source: ollama model/parsers/ministral.go, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.answer.callpieces import ARGUMENTS
from corral.answer.jsontext import Unreadable, loads_arguments
from corral.answer.parsers.brackets import BracketScan
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import Marks
from corral.core import Tool

_CALLS, _ARGUMENTS, _THINK, _THINK_END = "[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]"

_CONTENT = Mode(Kind.CONTENT, Marks(_CALLS, _THINK))
_THINKING = Mode(Kind.THINKING, Marks(_THINK_END), hold_blanks=False)
_NAMING = Mode(Kind.COLLECTED, Marks(_ARGUMENTS))
_ARGUING = Mode(Kind.COLLECTED, head=ARGUMENTS)


class MinistralParser(MarkedParser):
    """A call for a function that is not among the tools is a failure, as in Ollama."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(_CONTENT)
        self._names = frozenset(tool.name for tool in tools)
        self._name = ""
        self._brackets = BracketScan()

    def _meet(self, mark: str, text: str) -> None:
        if mark == _CALLS:
            self._enter(_NAMING)
        elif mark == _ARGUMENTS:
            self._name, self._brackets = text, BracketScan()
            self._enter(_ARGUING)
        elif mark == _THINK:
            self._enter(_THINKING)
        else:
            self._enter(_CONTENT, skip_blanks=True)

    def _read(self) -> bool:
        if self._mode is not _ARGUING:
            return super()._read()
        self._collect(self._text.up_to(self._brackets.end))
        if not self._brackets.closed:
            return False
        whole, self._collected = "".join(self._collected), []
        self._read_call(whole)
        self._enter(_CONTENT)
        return True

    def _name_of(self, head: re.Match[str]) -> str:
        return self._name if self._name in self._names else ""

    def _end(self, text: str, partial: str) -> None:
        written = f"{self._name}{_ARGUMENTS}{text}" if self._mode is _ARGUING else text + partial
        self._unread(_CALLS + written)

    def _read_call(self, text: str) -> None:
        try:
            if self._name not in self._names:
                raise Unreadable(f"tool '{self._name}' not found")
            self._call(self._name, loads_arguments(text))
        except Unreadable as error:
            self._fail(f"{_CALLS}{self._name}{_ARGUMENTS}{text}", str(error))
