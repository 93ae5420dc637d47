"""Finds tool calls in a model's text: a tag, then a known function's name and a JSON object. `outputs.py` feeds it.

Text before the tag is content. With a bare tag (`{` or `[`) a call is accepted only at the very beginning of the
reply. Nothing raises and nothing is lost: what looked like a call and is none comes back as content, with a Notice.
Source of the behaviour: ollama tools/tools.go, 2026-08 (spec native §6.5); departures: a call for an unknown function
never borrows a known one's name, arguments keep their order, prose behind a call is kept.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import Any

from corral.answer.callobjects import CALL_HEAD, calls_in, named_by
from corral.answer.callpieces import WrittenCall
from corral.answer.thinking import overlap
from corral.core import CallPiece, Notice, Tool, ToolCall
from corral.gotemplate import Template
from corral.gotemplate.nodes import Action, Branch, Field, If, Node, NodeList, Range, Text, Variable, walk

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_SIGNS = re.compile(r'["\\{}]')
# What models put around calls: tags, special tokens, code fences, list punctuation. Dropped only where nothing but
# this stands between or behind calls.
_SIGN = r"</?[^<>\s]{1,64}>|\[/?[A-Z_]+\]|```\w*|[\s,;\[\]{}]"
_MARKUP = re.compile(_SIGN + r"|\bfunctions?\b[.:=]?")
_EDGE = f"(?:{_SIGN})++"
_LEADING = re.compile(_EDGE)
_TRAILING = re.compile(_EDGE + r"\Z")


def new_call_id() -> str:
    """An id in Ollama's form: `call_` and eight of a-z0-9."""
    return "call_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


def find_tag(template: Template) -> str:
    """The text that begins a tool call, from the template's block for `.ToolCalls`; `{` if it has none.

    The first `if` that names ToolCalls counts, else the first `range` (Ollama looks at `if` only).
    """
    block = _calls_block(template, If) or _calls_block(template, Range)
    if block is None:
        return "{"
    return (_first_text(block.body) or "").replace("\r\n", "\n").partition("{")[0].strip() or "{"


def takes_bare_calls(template: Template) -> bool:
    """Whether Ollama would read a call without the tag that `find_tag` finds, because only a `range` shows it."""
    return _calls_block(template, If) is None


def _calls_block(template: Template, kind: type[If] | type[Range]) -> If | Range | None:
    """The template's first block of this kind that is about ToolCalls."""
    for node, _ in template.walk():
        if isinstance(node, kind) and _names_tool_calls(node.pipe):
            return node
    return None


def _names_tool_calls(pipe: Node) -> bool:
    return any(isinstance(node, Field | Variable) and "ToolCalls" in node.names for node, _ in walk(pipe))


def _first_text(nodes: NodeList) -> str | None:
    """The first non-blank text, depth first; an action before it ends the search."""
    for node in nodes.nodes:
        match node:
            case Text(text=text) if text.strip():
                return text
            case Branch(body=body, orelse=orelse):
                found = _first_text(body)
                return _first_text(orelse) if found is None and orelse is not None else found
            case Action(pipe=pipe) if not pipe.declares:
                return None
    return None


class _State(Enum):
    LOOKING = auto()  # for the tag
    CALLING = auto()  # behind it
    DONE = auto()  # all is content for good


class ToolCallParser:
    """Incremental parser of one reply; `notices` tells what could not be parsed.

    or_bare: a reply that begins with a call's JSON, without the tag, is a call too.
    """

    def __init__(
        self,
        tag: str,
        tools: Sequence[Tool],
        *,
        first_index: int = 0,
        new_id: Callable[[], str] = new_call_id,
        or_bare: bool = False,
    ) -> None:
        self.tag = tag
        self._tag_behind = ""  # the real tag while a reply that began with `{` is read without one
        self._or_bare = or_bare and tag not in ("{", "[")
        self.notices: list[Notice] = []
        self._names = frozenset(tool.name for tool in tools)
        self._bare = tag in ("{", "[")
        self._state = _State.LOOKING
        self._buffer = ""
        self._scanner = _ObjectScanner()
        self._index = first_index
        self._called = False
        self._failed = False
        self._new_id = new_id
        self._shows = False
        self._written: WrittenCall | None = None  # the object that the buffer holds, as far as `_shown_to`
        self._shown_to = 0
        self._pieces: list[CallPiece] = []

    @property
    def called(self) -> bool:
        """Whether a call was found."""
        return self._called

    def show_calls(self) -> None:
        """From now on, `take_pieces` tells of calls that are being written; one that breaks off is no content then."""
        self._shows = True

    def take_pieces(self) -> tuple[CallPiece, ...]:
        """The pieces of calls that the last text made certain."""
        pieces, self._pieces = tuple(self._pieces), []
        return pieces

    def feed(self, text: str) -> tuple[list[ToolCall], str]:
        """The calls that this piece completes and the content it makes certain."""
        if self._state is _State.DONE:
            return [], text
        self._buffer += text
        if self._or_bare and self._begins_undecided():
            return [], ""
        content, found = self._look() if self._state is _State.LOOKING else ("", True)
        if not found:
            return [], content
        calls, more = self._parse()
        if self._state is _State.LOOKING:  # a bare object that is no call: the tag may still come
            later, rest = self.feed("")
            return calls + later, content + more + rest
        return calls, content + more

    def _begins_undecided(self) -> bool:
        """True while the reply is blank; else settles, once, whether it is read without the tag."""
        start = self._buffer.lstrip()
        if not start:
            return True
        self._or_bare = False
        if start[0] == "{":
            self._tag_behind, self.tag, self._bare = self.tag, "{", True
        return False

    def finish(self) -> tuple[list[ToolCall], str]:
        """The content that is left when the reply ends."""
        rest, self._buffer = self._buffer, ""
        state, self._state = self._state, _State.DONE
        if state is not _State.CALLING:
            return [], rest
        broken = self._break_off()
        if broken or (rest and not self._called and not self._bare and not self._failed):
            self._note(rest, was_shown=broken)
        if broken:
            return [], self._prose(rest[: self._scanner.start])
        return [], self._prose(rest) if self._called else rest

    def _look(self) -> tuple[str, bool]:
        """The content before the tag, and whether CALLING began; a bare tag behind other text ends in DONE."""
        position = self._buffer.find(self.tag)
        found = position >= 0
        if not found:
            position = len(self._buffer) - overlap(self._buffer, self.tag)
        content, self._buffer = self._buffer[:position], self._buffer[position:]
        if self._bare and content.strip():
            self._state = _State.DONE
            content, self._buffer = content + self._buffer, ""
            return content, False
        if found:
            self._state = _State.CALLING
            self._scanner.reset(0)
        return content, found

    def _parse(self) -> tuple[list[ToolCall], str]:
        calls: list[ToolCall] = []
        content = ""
        while (span := self._scan()) is not None:
            start, end = span
            before, text, self._buffer = self._buffer[:start], self._buffer[start:end], self._buffer[end:]
            self._scanner.reset(0)
            found = calls_in(text, before, self._names)
            if found:
                content += self._prose(before)
                calls += self._made(found)
                self._called = True
                continue
            broken = self._break_off()
            content += self._prose(before) if broken else before + text
            if broken or not self._bare or self._called:
                self._note(text, was_shown=broken)
            if self._tag_behind and not self._called:
                self.tag, self._tag_behind, self._bare = self._tag_behind, "", False
                self._state = _State.LOOKING
                return calls, content
            if self._bare:
                self._state = _State.DONE
                content, self._buffer = content + self._buffer, ""
                return calls, content
        if self.tag == "[" and not self._called and not _may_be_list(self._buffer):
            self._state = _State.DONE
            content, self._buffer = content + self._buffer, ""
        return calls, content

    def _scan(self) -> tuple[int, int] | None:
        """Where the next object stands, when it is whole; what is there of it is shown."""
        span = self._scanner.scan(self._buffer)
        if self._shows and self._scanner.start >= 0:
            if self._written is None:
                self._written = WrittenCall(CALL_HEAD, partial(named_by, names=self._names), self._index, self._new_id)
                self._shown_to = self._scanner.start
            end = span[1] if span else len(self._buffer)
            self._pieces += self._written.feed(self._buffer[self._shown_to : end])
            self._shown_to = end
        return span

    def _made(self, found: Sequence[tuple[str, dict[str, Any]]]) -> list[ToolCall]:
        """The calls of one object, under the index and id that the client was shown."""
        calls = []
        for name, arguments in found:
            call = ToolCall(name, arguments, self._new_id(), self._index)
            written, self._written = self._written, None
            if written is not None and written.announced:
                call = replace(call, id=written.id)
                piece = written.ended(call)
                self._pieces.append(piece)
                if piece.end == "broken":
                    self._index += 1
                    call = replace(call, id=self._new_id(), index=self._index)
            calls.append(call)
            self._index += 1
        return calls

    def _break_off(self) -> bool:
        """End the shown call, if there is one, as none; its text is no content then."""
        written, self._written = self._written, None
        if written is None or not written.announced:
            return False
        self._pieces.append(written.ended(None))
        self._index += 1
        return True

    def _prose(self, text: str) -> str:
        """What is left of text between or behind calls without the markup of calls; "" if nothing else."""
        bare = text.replace(self.tag, " ")
        for name in sorted(self._names, key=len, reverse=True):
            bare = bare.replace(name, " ")
        if not _MARKUP.sub("", bare).strip():
            return ""
        text = text.removeprefix(self.tag)
        leading = _LEADING.match(text)
        text = text[leading.end() :] if leading else text
        trailing = _TRAILING.search(text)
        return text[: trailing.start()] if trailing else text

    def _note(self, text: str, *, was_shown: bool = False) -> None:
        self._failed = True
        shown = text if len(text) <= 200 else text[:200] + "…"
        where = "it was sent while it was written" if was_shown else "it is in the content"
        why = f"the model wrote something that looks like a tool call but is none; {where}"
        self.notices.append(Notice("tool_call_unparsed", why, {"text": shown}))


class _ObjectScanner:
    """Finds the end of the first whole JSON object in a growing buffer, reading each character once."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, position: int) -> None:
        self._at = position
        self.start = -1
        self._depth = 0
        self._in_string = False

    def scan(self, text: str) -> tuple[int, int] | None:
        """Start and end of the object; None while it is not complete. Quotes count inside of braces only."""
        while (sign := _SIGNS.search(text, self._at)) is not None:
            at, char = sign.start(), sign.group()
            if char == "\\" and self._in_string:
                if at + 1 == len(text):
                    self._at = at  # the escaped character is yet to come
                    return None
                self._at = at + 2
                continue
            self._at = at + 1
            if self._step(char, at):
                return self.start, self._at
        self._at = len(text)
        return None

    def _step(self, char: str, at: int) -> bool:
        if self._depth == 0:
            if char == "{":
                self.start, self._depth = at, 1
            return False
        if char == '"':
            self._in_string = not self._in_string
        elif not self._in_string and char in "{}":
            self._depth += 1 if char == "{" else -1
        return self._depth == 0


def _may_be_list(text: str) -> bool:
    """Whether text that begins with `[` can still become a list of objects."""
    inner = text[1:].lstrip()
    return not inner or inner.startswith("{")
