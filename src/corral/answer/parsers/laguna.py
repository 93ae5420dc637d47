"""laguna, poolside-v1: thinking, then content with calls in three forms.

| form                                                        | counts                                  |
|-------------------------------------------------------------|-----------------------------------------|
| `<tool_call>NAME<arg_key>K</arg_key><arg_value>V</arg_value>…`, or with JSON | always                 |
| `<user>` the same `</user>`                                 | when it names a known tool              |
| `{"name": …, "arguments": …}` in the content                | when there are tools                    |

Thinking that is off is dropped. laguna's prompt goes on with an assistant's last turn, poolside-v1's does not. Names of
other agents' tools (`read_file`) mean ours (`read`). Source: ollama model/parsers/laguna.go, 2026-08. Departures: an
object in the content that is plainly no call is content, not a failure; what follows a call's object is read on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from corral.answer.jsontext import Unreadable, loads_arguments, loads_call
from corral.answer.parsers.arguments import Schemas
from corral.answer.parsers.brackets import BracketScan
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.answer.parsers.qwen3coder import CALL, CALL_END, CALLING
from corral.answer.parsers.qwen35 import THINK, THINK_END, THINKING
from corral.core import Tool

_USER, _USER_END = "<user>", "</user>"
_KEY, _KEY_END, _VALUE, _VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
_ALIASES = {"read_file": "read", "write_file": "write", "edit_file": "edit", "web_fetch": "webfetch"}
_RECORD = 'struct { Name string "json:\\"name\\""; Arguments api.ToolCallFunctionArguments "json:\\"arguments\\"" }'

_UNWANTED = Mode(Kind.DROPPED, Marks(THINK_END, CALL))
_CONTENT = Mode(Kind.CONTENT, Marks(THINK, THINK_END, CALL))
_CONTENT_WITH_TOOLS = Mode(Kind.CONTENT, Marks(THINK, THINK_END, CALL, _USER, "{"))
_USER_TEXT = Mode(Kind.COLLECTED, Marks(_USER_END, THINK, CALL))
_STOPS = Marks(THINK, CALL)
_BRACE = Mode(Kind.COLLECTED)  # behind a `{` that may begin a call
_OBJECT = Mode(Kind.COLLECTED)

_OPENINGS = re.compile(rf"\A(?:{CALL}[{BLANKS}]*+)*+")
_BETWEEN = re.compile(rf"{_KEY_END}[{BLANKS}]*+{_VALUE}")
_NAME_END = re.compile(f"{_KEY}|[{{\r\n]")


class LagunaParser(MarkedParser):
    """thinks: the request wants the thinking; inside: the answer begins there."""

    def __init__(self, tools: Sequence[Tool], *, thinks: bool, inside: bool) -> None:
        self._content = _CONTENT_WITH_TOOLS if tools else _CONTENT
        super().__init__(THINKING if inside else self._content)
        if inside:
            self._await(THINK, THINKING, drops_blanks=True)
        else:
            self._skip_blanks = True
        self._inner = THINKING if thinks else _UNWANTED
        self._schemas = Schemas(tools)
        self._before = ""  # blanks in front of what may be a call
        self._scan = BracketScan()

    def _meet(self, mark: str, text: str) -> None:
        if self._mode is _USER_TEXT and mark != _USER_END:
            self._say(self._before + _USER + text)
        if mark == THINK:
            self._enter(self._inner, skip_blanks=True, keep_blanks=True)
        elif mark == CALL:
            self._enter(CALLING)
        elif mark == CALL_END:
            self._read_call(text, CALL + text + CALL_END)
            self._enter(self._content, skip_blanks=True)
        elif mark == THINK_END:
            self._enter(self._content, skip_blanks=self._mode is not self._content)
        elif mark == _USER_END:
            self._read_user(text)
        else:
            self._before = "".join(self._blanks)
            self._enter(_USER_TEXT if mark == _USER else _BRACE)

    def _read(self) -> bool:
        if self._mode is _BRACE:
            return self._read_brace()
        if self._mode is not _OBJECT:
            return super()._read()
        self._collected.append(self._text.up_to(self._scan.end))
        if not (self._scan.closed or self._scan.stopped):
            return False
        whole, self._collected = "{" + "".join(self._collected), []
        if self._scan.closed and _is_about_calls(whole):
            self._read_call(whole, whole)
            self._enter(self._content, skip_blanks=True)
        else:
            self._say(self._before + whole)
            self._enter(self._content)
        return True

    def _read_brace(self) -> bool:
        """Only an object whose first member, or line break, follows the brace is looked into."""
        seen = self._text.peek(2)
        if seen in ("", "\r"):
            return False
        if seen[0] in '"\n' or seen == "\r\n":
            self._scan = BracketScan(depth=1, stops=_STOPS)
            self._enter(_OBJECT)
        else:
            self._say(self._before + "{")
            self._enter(self._content)
        return True

    def _end(self, text: str, partial: str) -> None:
        text += partial
        if self._mode is CALLING:
            if text.strip(BLANKS):
                self._read_call(text, CALL + text)
        elif self._mode is _OBJECT and _is_about_calls("{" + text):
            self._read_call("{" + text, "{" + text)
        else:
            opening = _USER if self._mode is _USER_TEXT else "{"
            self._say(self._before + (opening + text).rstrip(BLANKS))

    def _read_user(self, text: str) -> None:
        cleaned = _cleaned(text)
        name = self._resolve(_named(cleaned))
        if name in self._schemas:
            try:
                self._call(*self._parsed(cleaned))
            except Unreadable:
                pass
            else:
                self._enter(self._content, skip_blanks=True)
                return
        self._say(f"{self._before}{_USER}{text}{_USER_END}")
        self._enter(self._content)

    def _read_call(self, text: str, written: str) -> None:
        try:
            name, arguments = self._parsed(_cleaned(text))
        except Unreadable as error:
            self._fail(written, str(error))
            return
        if not name:
            self._unread(written, "empty function name")
        self._call(name, arguments)

    def _parsed(self, text: str) -> tuple[str, dict[str, Any]]:
        """Name and arguments of a cleaned call."""
        if text.startswith("{"):
            with _saying("tool call"):
                name, arguments = loads_call(text, _RECORD)
            if not name:
                raise Unreadable("empty Laguna tool call name")
            return self._resolve(name), arguments
        name, pairs, rest = text.partition(_KEY)
        if not pairs:
            name, brace, rest = text.partition("{")
            if brace:
                with _saying("tool call arguments"):
                    return self._resolve(name.strip(BLANKS)), loads_arguments(brace + rest)
        name = self._resolve(name.strip(BLANKS))
        return name, {key: self._schemas.value(name, key, value) for key, value in _pairs(pairs + rest)}

    def _resolve(self, name: str) -> str:
        alias = _ALIASES.get(name, name)
        return alias if name not in self._schemas and alias in self._schemas else name


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Puts into Ollama's words what could not be read."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"failed to parse Laguna JSON {what}: {error}") from None


def _is_about_calls(text: str) -> bool:
    return '"name"' in text or '"arguments"' in text


def _cleaned(text: str) -> str:
    """A call without tags around it; of several, opened but not closed, the first."""
    text = text.strip(BLANKS)
    text = _OPENINGS.sub("", text, count=1)
    text = text.partition(CALL_END)[0].strip(BLANKS)
    return text.partition(CALL)[0].strip(BLANKS)


def _named(text: str) -> str:
    if text.startswith("{"):
        try:
            return loads_call(text, _RECORD)[0].strip(BLANKS)
        except Unreadable:
            return ""
    end = _NAME_END.search(text)
    return text[: end.start() if end else None].strip(BLANKS)


def _pairs(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = text.find(_KEY)
    while at >= 0:
        between = _BETWEEN.search(text, at)
        end = text.find(_VALUE_END, between.end()) if between else -1
        if between is None or end < 0:
            break
        found.append((text[at + len(_KEY) : between.start()].strip(BLANKS), text[between.end() : end]))
        at = text.find(_KEY, end)
    return found
