"""passthrough: the text is the answer. Source: ollama model/parsers/parsers.go, 2026-08."""

from __future__ import annotations

from corral.answer.parsers.marked import Kind, MarkedParser, Mode

_CONTENT = Mode(Kind.CONTENT, hold_blanks=False)


class PassthroughParser(MarkedParser):
    """Nothing is looked for."""

    def __init__(self) -> None:
        super().__init__(_CONTENT)
