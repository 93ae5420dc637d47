"""qwen3.5, ornith, nemotron-3-nano, nemotron-3.5-nano: thinking first, then what qwen3-coder writes.

The prompt opens the thinking; a `<think>` that the model writes once more is dropped. A call ends the thinking, too.
Source: ollama model/parsers/qwen35.go, nemotron3nano.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.answer.parsers.marked import Kind, Mode
from corral.answer.parsers.pieces import Marks
from corral.answer.parsers.qwen3coder import CALL, CONTENT, Qwen3CoderParser
from corral.core import Tool

THINK, THINK_END = "<think>", "</think>"
THINKING = Mode(Kind.THINKING, Marks(THINK_END, CALL))


class Qwen35Parser(Qwen3CoderParser):
    """`thinks`: the answer begins inside the thinking."""

    def __init__(self, tools: Sequence[Tool], *, thinks: bool) -> None:
        super().__init__(tools, THINKING if thinks else CONTENT)
        if thinks:
            self._await(THINK, THINKING)

    def _meet(self, mark: str, text: str) -> None:
        if mark == THINK_END:
            self._enter(CONTENT, skip_blanks=True)
        else:
            super()._meet(mark, text)
