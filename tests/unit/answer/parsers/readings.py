"""What the tests of parsers share: recorded cases, and an answer read in given pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.answer.parsers import AnswerParser, answer_parser
from corral.core import Delta, Message, Think, Tool

_TESTS = Path(__file__).parents[3]
GOLDEN: dict[str, Any] = json.loads((_TESTS / "golden" / "parsers.json").read_text())
KIT = _TESTS.parents[1] / "shared" / "library" / "parsers.json"
TOOLS = tuple(
    Tool(entry["function"]["name"], entry["function"]["description"], entry["function"]["parameters"])
    for entry in GOLDEN["tools"]
)


@dataclass(frozen=True)
class Case:
    """A recorded answer. expected: what Ollama made of it, in pieces and, where that differs, whole."""

    parser: str
    name: str
    pieces: tuple[str, ...]
    think: Think
    tools: Sequence[Tool]
    last: Message
    expected: tuple[dict[str, Any], ...]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class Reading:
    """All that a parser made of an answer."""

    content: str = ""
    thinking: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failure: str = ""
    notices: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)

    def take(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            assert delta != Delta(), "an empty delta"
            self.content += delta.content
            self.thinking += delta.thinking
            self.calls += [(call.name, call.arguments) for call in delta.tool_calls]
            self.indexes += [call.index for call in delta.tool_calls]
            assert all(call.id.startswith("call_") for call in delta.tool_calls)


def parser_of(
    name: str, *, tools: Sequence[Tool] = TOOLS, last: Message | None = None, think: Think = None
) -> AnswerParser:
    parser = answer_parser(name, tools, last, think)
    assert parser is not None, name
    return parser


def read(parser: AnswerParser, pieces: Iterable[str]) -> Reading:
    reading = Reading()
    for piece in pieces:
        reading.take(parser.feed(piece))
    reading.take(parser.finish())
    reading.failure = "" if parser.failure is None else str(parser.failure)
    reading.notices = [(notice.code, notice.facts) for notice in parser.notices]
    assert reading.indexes == list(range(len(reading.calls)))
    return reading


def cases_of(recorded: dict[str, Any]) -> list[Case]:
    """The cases of a file in the kit's form or in ours (see `about` in it)."""
    found = []
    for entry in recorded["cases"]:
        chunks, last = entry["chunks"], entry.get("last_message", {"role": "user", "content": "Hi"})
        found.append(
            Case(
                entry["parser"],
                entry["name"],
                tuple(chunks.split("␟") if isinstance(chunks, str) else chunks),
                entry["think"],
                TOOLS if entry.get("tools", True) else (),
                Message(last["role"], last["content"], tool_name=last.get("tool_name", "")),
                tuple(entry[key] for key in ("expect", "expect_whole") if key in entry),
            )
        )
    return found
