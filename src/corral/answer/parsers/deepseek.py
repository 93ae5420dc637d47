"""deepseek3 and cogito: sections of calls between full-width tags, and sections of made-up tool output.

Thinking only when it is asked for (cogito: and no tools are given). deepseek3 shows the output sections as content,
cogito drops them. Source: ollama model/parsers/deepseek3.go, cogito.go, 2026-08. Departures: a call that cannot be read
does not hide those behind it; an output section that is not closed is content all the same.
"""

from __future__ import annotations

import re

from corral.answer.callpieces import BEGUN
from corral.answer.jsontext import Unreadable, loads_arguments
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.answer.parsers.qwen35 import THINK_END
from corral.core import Notice

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_OUTPUT, _OUTPUT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
_OUTPUTS, _OUTPUTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_INVENTED = "the model wrote itself what a tool would answer; it is left out of the content"
_FENCE, _FENCE_END = "\n```json\n", "\n```"

_THINKING = Mode(Kind.THINKING, Marks(THINK_END))
_HEAD = re.compile(rf"(?P<name>[^{_SEPARATOR[0]}]*+){_SEPARATOR}[{BLANKS}]*+{BEGUN}")
_COGITO_HEAD = re.compile(rf"[^{_SEPARATOR[0]}]*+{_SEPARATOR}(?P<name>[^\n]*+){_FENCE}[{BLANKS}]*+{BEGUN}")
_BETWEEN_CALLS = Mode(Kind.COLLECTED, Marks(_CALL, _CALLS_END))
_CALLING = Mode(Kind.COLLECTED, Marks(_CALL_END, _CALLS_END), head=_HEAD)
_COGITO_CALLING = Mode(Kind.COLLECTED, Marks(_CALL_END, _CALLS_END), head=_COGITO_HEAD)


class DeepSeek3Parser(MarkedParser):
    """`thinks`: the answer begins inside the thinking."""

    CONTENT = Mode(Kind.CONTENT, Marks(_CALLS, _OUTPUT), end_blanks=True)
    OUTPUT = Mode(Kind.CONTENT, Marks(_OUTPUT_END), end_blanks=True)
    CALLING = _CALLING

    def __init__(self, *, thinks: bool) -> None:
        super().__init__(_THINKING if thinks else self.CONTENT)

    def _meet(self, mark: str, text: str) -> None:
        if mark == THINK_END:
            self._enter(self.CONTENT, skip_blanks=True)
        elif mark == _CALLS:
            self._enter(_BETWEEN_CALLS)
        elif mark == _CALL:
            self._lose(text)
            self._enter(self.CALLING)
        elif mark == _CALL_END:
            self._read_call(text)
            self._enter(_BETWEEN_CALLS)
        elif mark == _CALLS_END:
            self._lose(text)
            self._enter(self.CONTENT, skip_blanks=True)
        elif mark == _OUTPUT:
            self._enter(self.OUTPUT, keep_blanks=True)
        else:
            self._enter(self.CONTENT, keep_blanks=True)

    def _lose(self, text: str) -> None:
        """Text in a section of calls that is in no call that ends."""
        if text.strip(BLANKS):
            self._unread(text)

    def _read_call(self, text: str) -> None:
        try:
            self._call(*self._parsed(text))
        except Unreadable as error:
            self._unread(text, str(error))

    def _parsed(self, text: str) -> tuple[str, dict[str, object]]:
        name, found, arguments = text.partition(_SEPARATOR)
        if not found:
            raise Unreadable("invalid format")
        return name.strip(BLANKS), loads_arguments(arguments.strip(BLANKS))


class CogitoParser(DeepSeek3Parser):
    """Calls as `function<sep>NAME` and a fenced block of JSON."""

    CONTENT = Mode(Kind.CONTENT, Marks(_CALLS, _OUTPUTS), end_blanks=True)
    OUTPUTS = Mode(Kind.DROPPED, Marks(_OUTPUTS_END))
    CALLING = _COGITO_CALLING

    def _meet(self, mark: str, text: str) -> None:
        if mark == _OUTPUTS:
            self.notices.append(Notice("tool_output_dropped", _INVENTED))
            self._enter(self.OUTPUTS)
        elif mark == _OUTPUTS_END:
            self._enter(self.CONTENT, skip_blanks=True)
        else:
            super()._meet(mark, text)

    def _parsed(self, text: str) -> tuple[str, dict[str, object]]:
        _, separated, call = text.partition(_SEPARATOR)
        name, opened, block = call.partition(_FENCE)
        arguments, closed, _ = block.partition(_FENCE_END)
        if not (separated and opened and closed):
            raise Unreadable("invalid format")
        return name.strip(BLANKS), loads_arguments(arguments)
