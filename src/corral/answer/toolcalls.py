"""Finds tool calls in a model's text: a tag, then a known function's name and a JSON object. `outputs.py` feeds it.

Text before the tag is content. With a bare tag (`{` or `[`) a call is accepted only at the very beginning of the
reply. Nothing raises and nothing is lost: what looked like a call and is none comes back as content, with a Notice.
Source of the behaviour: ollama tools/tools.go, 2026-08 (spec native §6.5); departures: a call for an unknown function
never borrows a known one's name, arguments keep their order, prose behind a call is kept.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from corral.answer.jsontext import Unreadable, loads
from corral.answer.thinking import overlap
from corral.core import Notice, Tool, ToolCall
from corral.gotemplate import Template
from corral.gotemplate.nodes import Action, Branch, Field, If, Node, NodeList, Range, Text, Variable, walk

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_NAME_KEYS = ("name", "function", "tool", "tool_name")
_ARGUMENT_KEYS = ("arguments", "parameters")
_MAX_NESTING = 8  # levels of wrapping around a call, as in {"tool_calls": [{"function": {...}}]}
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

    @property
    def called(self) -> bool:
        """Whether a call was found."""
        return self._called

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
        if self._called:
            return [], self._prose(rest)
        if rest and not self._bare and not self._failed:
            self._note(rest)
        return [], rest

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
        while (span := self._scanner.scan(self._buffer)) is not None:
            start, end = span
            before, text, self._buffer = self._buffer[:start], self._buffer[start:end], self._buffer[end:]
            self._scanner.reset(0)
            found = _resolve(text, before, self._names)
            if found:
                content += self._prose(before)
                for name, arguments in found:
                    calls.append(ToolCall(name, arguments, self._new_id(), self._index))
                    self._index += 1
                self._called = True
                continue
            content += before + text
            if not self._bare or self._called:
                self._note(text)
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

    def _note(self, text: str) -> None:
        self._failed = True
        shown = text if len(text) <= 200 else text[:200] + "…"
        why = "the model wrote something that looks like a tool call but is none; it is in the content"
        self.notices.append(Notice("tool_call_unparsed", why, {"text": shown}))


class _ObjectScanner:
    """Finds the end of the first whole JSON object in a growing buffer, reading each character once."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, position: int) -> None:
        self._at = position
        self._start = -1
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
                return self._start, self._at
        self._at = len(text)
        return None

    def _step(self, char: str, at: int) -> bool:
        if self._depth == 0:
            if char == "{":
                self._start, self._depth = at, 1
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


def loads_object(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for anything else; never raises."""
    try:
        value = loads(text)
    except Unreadable:
        return None
    return value if isinstance(value, dict) else None


def _resolve(text: str, before: str, names: frozenset[str]) -> list[tuple[str, dict[str, Any]]]:
    """The calls in one JSON object: it names its function, or the text before it does."""
    data = loads_object(text)
    if data is None:
        return []
    found = _search(data, names, _MAX_NESTING)
    if found or any(isinstance(data.get(key), str) for key in _NAME_KEYS):
        return found or []
    named = [(before.rfind(name) + len(name), len(name), name) for name in names if name and name in before]
    if not named:
        return []
    arguments = _arguments(data)
    return [(max(named)[2], data if arguments is None else arguments)]


def _search(data: Any, names: frozenset[str], depth: int) -> list[tuple[str, dict[str, Any]]] | None:
    """Calls anywhere in decoded JSON; None when a part of it calls something unknown."""
    if depth == 0 or not isinstance(data, dict | list):
        return []
    if isinstance(data, dict):
        own = _own_call(data, names)
        if own is not None:
            return own or None
    found: list[tuple[str, dict[str, Any]]] = []
    for value in data.values() if isinstance(data, dict) else data:
        inner = _search(value, names, depth - 1)
        if inner is None:
            return None
        found += inner
    return found


def _own_call(data: Mapping[str, Any], names: frozenset[str]) -> list[tuple[str, dict[str, Any]]] | None:
    """The call an object is; [] when it names an unknown function or has no arguments; None when it names none."""
    for key in _NAME_KEYS:
        name = data.get(key)
        if not isinstance(name, str):
            continue
        if name not in names:
            return [] if key == "name" else None
        arguments = _arguments(data)
        if arguments is None and set(data) <= {key, "type", "id"}:
            arguments = {}
        return [] if arguments is None else [(name, arguments)]
    for name in names & data.keys():
        value = data[name]
        arguments = value if isinstance(value, dict) else loads_object(value) if isinstance(value, str) else None
        if arguments is not None:
            return [(name, arguments)]
    return None


def _arguments(data: Mapping[str, Any]) -> dict[str, Any] | None:
    for key in _ARGUMENT_KEYS:
        value = data.get(key)
        if isinstance(value, dict):
            return value
        if isinstance(value, str):
            decoded = loads_object(value)
            if decoded is not None:
                return decoded
    return None
