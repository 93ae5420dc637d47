"""qwen3, qwen3-thinking, qwen3-vl-instruct, qwen3-vl-thinking: `<tool_call>{"name": …, "arguments": …}</tool_call>`.

Thinking models begin inside the thinking; a call ends it, too. qwen3 drops a `<think>` that the model writes once more
and wants a name. Source: ollama model/parsers/qwen3.go, qwen3vl.go, 2026-08.
"""

from __future__ import annotations

import re

from corral.answer.callpieces import members_of, record_head
from corral.answer.jsontext import Unreadable, loads_call
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.answer.parsers.qwen3coder import CALL, CALL_END, CONTENT
from corral.answer.parsers.qwen35 import THINK, THINKING

_CALLING = Mode(Kind.COLLECTED, Marks(CALL_END), head=record_head("arguments"))
_RECORD = 'struct { Name string "json:\\"name\\""; Arguments api.ToolCallFunctionArguments "json:\\"arguments\\"" }'


class Qwen3VLParser(MarkedParser):
    """`thinks`: the answer begins inside the thinking."""

    def __init__(self, *, thinks: bool) -> None:
        super().__init__(THINKING if thinks else CONTENT)

    def _meet(self, mark: str, text: str) -> None:
        if mark == CALL:
            self._enter(_CALLING)
            return
        if mark == CALL_END:
            self._read_call(text)
        self._enter(CONTENT, skip_blanks=True)

    def _name_of(self, head: re.Match[str]) -> str:
        name = {key.lower(): value for key, value in members_of(head).items()}.get("name")
        return name if isinstance(name, str) else ""

    def _end(self, text: str, partial: str) -> None:
        self._unread(CALL + text + partial)

    def _read_call(self, text: str) -> None:
        try:
            name, arguments = loads_call(text, "api.ToolCallFunction", "ToolCallFunction")
        except Unreadable as error:
            self._fail(CALL + text + CALL_END, str(error))
            return
        if not name:
            self._unread(CALL + text + CALL_END, "empty function name")
        self._call(name, arguments)


class Qwen3Parser(Qwen3VLParser):
    """As above, with qwen3's own strictness."""

    def __init__(self, *, thinks: bool) -> None:
        super().__init__(thinks=thinks)
        if thinks:
            self._await(THINK, THINKING)

    def _read_call(self, text: str) -> None:
        try:
            name, arguments = _named_call(text.strip(BLANKS))
        except Unreadable as error:
            self._fail(CALL + text + CALL_END, str(error))
            return
        self._call(name, arguments)


def _named_call(text: str) -> tuple[str, dict[str, object]]:
    try:
        name, arguments = loads_call(text, _RECORD)
    except Unreadable as error:
        raise Unreadable(f"failed to parse JSON: {error}") from None
    if not name:
        raise Unreadable("empty function name")
    return name, arguments
