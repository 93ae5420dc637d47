"""gemma4, gemma4-no-thinking: `<|channel>thought\\n…<channel|>` and `<|tool_call>call:NAME{…}<tool_call|>`.

Channels are thinking when the request wants it, else they are dropped. Behind a tool's result a thinking model is
inside the channel already. The arguments' own format is read by gemma4arguments.py. Source: ollama
model/parsers/gemma4.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.arguments import Schemas
from corral.answer.parsers.gemma4arguments import read_arguments
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.core import Tool

_CHANNEL, _CHANNEL_END, _CHANNEL_NAME = "<|channel>", "<channel|>", "thought\n"
_CALL, _CALL_END, _RESPONSE = "<|tool_call>", "<tool_call|>", "<|tool_response>"
_CONTENT = Mode(Kind.CONTENT, Marks(_CHANNEL, _CALL), end_blanks=True)
_THINKING = Mode(Kind.THINKING, Marks(_CHANNEL_END), end_blanks=True)
_UNWANTED = Mode(Kind.DROPPED, Marks(_CHANNEL_END))
_CALLING = Mode(Kind.COLLECTED, Marks(_CALL_END))
_CALLED = Mode(Kind.COLLECTED)  # right behind a call


class Gemma4Parser(MarkedParser):
    """thinks: the request wants the channels' text; inside: the answer begins in one."""

    def __init__(self, tools: Sequence[Tool], *, thinks: bool, inside: bool) -> None:
        super().__init__(_THINKING if thinks and inside else _CONTENT)
        self._channel = _THINKING if thinks else _UNWANTED
        self._schemas = Schemas(tools)

    def _meet(self, mark: str, text: str) -> None:
        if mark == _CHANNEL:
            self._enter(self._channel)
            self._await(_CHANNEL_NAME, self._channel, behind_blanks=False)
        elif mark == _CALL:
            self._enter(_CALLING)
        elif mark == _CALL_END:
            self._read_call(text, _CALL_END)
            self._enter(_CALLED, skip_blanks=True)
        else:
            self._enter(_CONTENT, skip_blanks=True)

    def _read(self) -> bool:
        """Stray ends of calls and beginnings of results right behind a call are nobody's text."""
        if self._mode is not _CALLED:
            return super()._read()
        for stray in (_CALL_END, _RESPONSE):
            seen = self._text.peek(len(stray))
            if seen == stray:
                self._text.skip(len(stray))
                self._enter(_CALLED, skip_blanks=True)
                return True
            if seen and stray.startswith(seen):
                return False
        self._enter(_CONTENT)
        return True

    def _end(self, text: str, partial: str) -> None:
        """The model may stop before the closing tag."""
        if self._mode is _CALLED:
            self._say(text + partial)
        else:
            self._read_call(text + partial, "")

    def _read_call(self, text: str, end: str) -> None:
        try:
            if not text.startswith("call:"):
                raise Unreadable("expected 'call:' prefix")
            name, brace, arguments = text.removeprefix("call:").partition("{")
            if not brace:
                raise Unreadable("expected '{' in tool call")
            name = name.strip(BLANKS)
            self._call(name, read_arguments(brace + arguments, self._schemas.properties(name)))
        except Unreadable as error:
            self._unread(_CALL + text + end, str(error))
