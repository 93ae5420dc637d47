"""One face for every way to read a model's text: pieces in, deltas out. `inference/` makes one per reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from corral.answer.thinking import ThinkingParser
from corral.answer.toolcalls import ToolCallParser
from corral.core import Delta, Notice, ToolCall
from corral.errors import CorralError


class OutputParser(Protocol):
    """Turns the engine's pieces of text into deltas."""

    notices: list[Notice]

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""

    @property
    def failure(self) -> CorralError | None:
        """What Ollama would have answered instead, with a call that it could not read; strict requests do too."""

    def show_calls(self) -> None:
        """From now on, calls are shown while they are written, where their form allows it (see callpieces.py)."""

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain, thinking before content before calls; often none."""

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""


class TaggedOutput:
    """Thinking between tags, then tool calls in the content; either may be absent, with both it is plain text."""

    failure: CorralError | None = None

    def __init__(self, thinking: ThinkingParser | None = None, tools: ToolCallParser | None = None) -> None:
        self._thinking = thinking
        self._tools = tools
        self.notices: list[Notice] = [] if tools is None else tools.notices

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""
        return self._thinking is not None and self._thinking.thinking

    def show_calls(self) -> None:
        """From now on, calls are shown while they are written."""
        if self._tools is not None:
            self._tools.show_calls()

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain."""
        thinking, content = ("", piece) if self._thinking is None else self._thinking.feed(piece)
        return _thought(thinking) + self._answer(content)

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""
        thinking, content = ("", "") if self._thinking is None else self._thinking.finish()
        deltas = _thought(thinking) + self._answer(content)
        if self._tools is not None:
            deltas += self._called(self._tools, *self._tools.finish())
        return deltas

    def _answer(self, content: str) -> list[Delta]:
        if not content:
            return []
        if self._tools is None:
            return [Delta(content=content)]
        return self._called(self._tools, *self._tools.feed(content))

    def _called(self, tools: ToolCallParser, calls: list[ToolCall], text: str) -> list[Delta]:
        pieces = tools.take_pieces()
        return [Delta(content=text, tool_calls=tuple(calls), call_pieces=pieces)] if calls or text or pieces else []


class _Around:
    """What stands around another parser and thinks and fails as that one does."""

    def __init__(self, parser: OutputParser) -> None:
        self._parser = parser

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""
        return self._parser.thinking

    @property
    def failure(self) -> CorralError | None:
        """The other parser's."""
        return self._parser.failure


class WithoutLead(_Around):
    """Another parser's answer, without a text that the model was made to write and that parser takes for written."""

    def __init__(self, parser: OutputParser, lead: str) -> None:
        super().__init__(parser)
        self._lead = lead
        self.notices = parser.notices

    def show_calls(self) -> None:
        """From now on, calls are shown while they are written."""
        self._parser.show_calls()

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain."""
        size = min(len(self._lead), len(piece))
        if self._lead[:size] != piece[:size]:
            self._lead, size = "", 0
        self._lead, rest = self._lead[size:], piece[size:]
        return self._parser.feed(rest) if rest else []

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""
        return self._parser.finish()


class CallsInContent(_Around):
    """Another parser's answer, with tool calls of another form taken out of its content."""

    def __init__(self, parser: OutputParser, tools: ToolCallParser) -> None:
        super().__init__(parser)
        self._content = TaggedOutput(None, tools)
        self.notices: list[Notice] = []

    def show_calls(self) -> None:
        """From now on, calls in the content are shown while they are written."""
        self._content.show_calls()

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain."""
        return self._reread(self._parser.feed(piece))

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""
        deltas = self._reread(self._parser.finish()) + self._content.finish()
        self.notices += [*self._parser.notices, *self._content.notices]
        return deltas

    def _reread(self, deltas: list[Delta]) -> list[Delta]:
        read: list[Delta] = []
        for delta in deltas:
            rest = replace(delta, content="")
            read += [rest] if rest != Delta() else []
            read += self._content.feed(delta.content) if delta.content else []
        return read


def _thought(text: str) -> list[Delta]:
    return [Delta(thinking=text)] if text else []
