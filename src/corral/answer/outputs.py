"""One face for every way to read a model's text: pieces in, deltas out. `inference/` makes one per reply."""

from __future__ import annotations

from typing import Protocol

from corral.answer.thinking import ThinkingParser
from corral.answer.toolcalls import ToolCallParser
from corral.core import Delta, Notice


class OutputParser(Protocol):
    """Turns the engine's pieces of text into deltas."""

    notices: list[Notice]

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain, thinking before content before calls; often none."""

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""


class TaggedOutput:
    """Thinking between tags, then tool calls in the content; either may be absent, with both it is plain text."""

    def __init__(self, thinking: ThinkingParser | None = None, tools: ToolCallParser | None = None) -> None:
        self._thinking = thinking
        self._tools = tools
        self.notices: list[Notice] = [] if tools is None else tools.notices

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""
        return self._thinking is not None and self._thinking.thinking

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain."""
        thinking, content = ("", piece) if self._thinking is None else self._thinking.feed(piece)
        return _thought(thinking) + self._answer(content)

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""
        thinking, content = ("", "") if self._thinking is None else self._thinking.finish()
        deltas = _thought(thinking) + self._answer(content)
        if self._tools is not None:
            calls, rest = self._tools.finish()
            if calls or rest:
                deltas.append(Delta(content=rest, tool_calls=tuple(calls)))
        return deltas

    def _answer(self, content: str) -> list[Delta]:
        if not content:
            return []
        if self._tools is None:
            return [Delta(content=content)]
        calls, text = self._tools.feed(content)
        return [Delta(content=text, tool_calls=tuple(calls))] if calls or text else []


def _thought(text: str) -> list[Delta]:
    return [Delta(thinking=text)] if text else []
