"""qwen3-coder: `<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`, values by schema.

Source: ollama model/parsers/qwen3coder.go, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.arguments import Schemas
from corral.answer.parsers.elements import read_root, read_tags
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import Marks
from corral.core import Tool

CALL, CALL_END = "<tool_call>", "</tool_call>"
CONTENT = Mode(Kind.CONTENT, Marks(CALL))
CALLING = Mode(Kind.COLLECTED, Marks(CALL_END))

_TAG = re.compile(
    r"<(?P<close>/?)(?P<tag>function|parameter)"
    r"(?:(?<!</function)(?<!</parameter)=(?P<value>[^>]+)|\s+name=\"(?P<quoted>[^\"]*)\")?>"
)


class Qwen3CoderParser(MarkedParser):
    """Content and calls; the base of those that think before."""

    def __init__(self, tools: Sequence[Tool], mode: Mode = CONTENT) -> None:
        super().__init__(mode)
        self._schemas = Schemas(tools)

    def _meet(self, mark: str, text: str) -> None:
        if mark == CALL:
            self._enter(CALLING)
            return
        self._read_call(text)
        self._enter(CONTENT, skip_blanks=True)

    def _end(self, text: str, partial: str) -> None:
        self._unread(CALL + text + partial)

    def _read_call(self, text: str) -> None:
        try:
            self._call(*read_function(text, self._schemas))
        except Unreadable as error:
            self._fail(CALL + text + CALL_END, str(error))


def read_function(text: str, schemas: Schemas) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call; raises Unreadable."""
    root = read_root(text, read_tags(_TAG, text), "function")
    parameters = [child for child in root.children if child.tag == "parameter"]
    return root.name, {child.name: schemas.value(root.name, child.name, child.text) for child in parameters}
