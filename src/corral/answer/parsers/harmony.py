"""harmony, gpt-oss' format: `<|start|>assistant<|channel|>analysis<|message|>…<|end|>`.

analysis is thinking, final and commentary are content, any of them but final with a recipient (`to=functions.f`) is a
tool call. The prompt has begun the first message. Source: ollama harmony/harmonyparser.go, 2026-08. Departures: every
call counts, not one at the end; text that does not follow the format is content, with a Notice.
"""

from __future__ import annotations

import re

from corral.answer.callpieces import ARGUMENTS
from corral.answer.harmony import CHANNEL, END, MESSAGE, START, FunctionNames, Header, parse_header
from corral.answer.jsontext import Unreadable, loads_arguments
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.core import Message, Notice

_STRAY = Notice("harmony_format", "the model left its message format; its text is in the content")
_LONGEST_HEADER = 1024
_HEADER = Mode(Kind.COLLECTED, Marks(MESSAGE))
_THINKING = Mode(Kind.THINKING, Marks(END), hold_blanks=False)
_CONTENT = Mode(Kind.CONTENT, Marks(END), hold_blanks=False)
_CALLING = Mode(Kind.COLLECTED, Marks(END), head=ARGUMENTS)
_BETWEEN = Mode(Kind.CONTENT, Marks(START))  # no message; only blanks should stand here


class HarmonyParser(MarkedParser):
    """names: the functions as the prompt names them; last: the conversation's last turn, which the answer may go on."""

    def __init__(self, names: FunctionNames, last: Message | None = None) -> None:
        super().__init__(_opened(last))
        self._names = names
        self._role = "assistant"  # of the first header, which the prompt has begun
        self._recipient = ""

    def _meet(self, mark: str, text: str) -> None:
        if mark == MESSAGE:
            self._begin(parse_header(self._role + text))
            self._role = ""
        elif mark == START:
            self._enter(_HEADER)
        else:
            if self._mode is _CALLING:
                self._read_call(text)
            self._enter(_BETWEEN)

    def _read(self) -> bool:
        return super()._read() or self._is_no_header()

    def _end(self, text: str, partial: str) -> None:
        """The token that ends a call ends the generation, too."""
        text += partial
        if self._mode is _CALLING:
            self._read_call(text)
        elif CHANNEL not in text and text.strip(BLANKS):
            self._stray(text)

    def _pass(self, mode: Mode, text: str) -> None:
        if mode is _BETWEEN and text.strip(BLANKS):
            self._note_stray()
        super()._pass(mode, text)

    def _begin(self, header: Header) -> None:
        self._recipient = header.recipient
        if header.recipient and header.channel in ("analysis", "commentary", ""):
            self._enter(_CALLING)
        else:
            self._enter(_THINKING if header.channel == "analysis" else _CONTENT)

    def _is_no_header(self) -> bool:
        """What is too long for a header is content."""
        if self._mode is not _HEADER or sum(map(len, self._collected)) <= _LONGEST_HEADER:
            return False
        text, self._collected = "".join(self._collected), []
        self._stray(text)
        self._enter(_CONTENT)
        return True

    @property
    def _function(self) -> str:
        return self._names.original(self._recipient.removeprefix("functions."))

    def _name_of(self, head: re.Match[str]) -> str:
        return self._function

    def _read_call(self, text: str) -> None:
        try:
            self._call(self._function, loads_arguments(text))
        except Unreadable as error:
            self._fail(text, f"error parsing tool call: raw='{text}', err={error}")

    def _stray(self, text: str) -> None:
        self._note_stray()
        self._say(text)

    def _note_stray(self) -> None:
        if not any(notice.code == _STRAY.code for notice in self.notices):
            self.notices.append(_STRAY)


def _opened(last: Message | None) -> Mode:
    """What the prompt has begun: a message that the answer goes on with, or a header."""
    if last is None or last.role != "assistant" or not (last.content or last.thinking):
        return _HEADER
    return _CONTENT if last.content else _THINKING
