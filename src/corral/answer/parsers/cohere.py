"""cohere: blocks between `<|START_X|>` and `<|END_X|>` for thinking, text and actions (a JSON list of calls).

The answer begins inside the thinking unless that is off. Between blocks, text without a tag is content. Each readable
call of a broken list counts. Source: ollama model/parsers/cohere.go, 2026-08.
"""

from __future__ import annotations

import re

from corral.answer.callpieces import members_of, record_head
from corral.answer.jsontext import Unreadable, loads, loads_arguments, text_member
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks

_THINKING_END = "<|END_THINKING|>"
_TEXT, _TEXT_END = "<|START_TEXT|>", "<|END_TEXT|>"
_RESPONSE, _RESPONSE_END = "<|START_RESPONSE|>", "<|END_RESPONSE|>"  # of the older template
_ACTION, _ACTION_END = "<|START_ACTION|>", "<|END_ACTION|>"
_TURN_END = "<|END_OF_TURN_TOKEN|>"
_THINKING = Mode(Kind.THINKING, Marks(_THINKING_END))
_CONTENT = Mode(Kind.CONTENT, Marks(_TEXT_END, _RESPONSE_END, _TURN_END), hold_blanks=False)
_BETWEEN = Mode(Kind.COLLECTED)  # tags and blanks
_BEFORE_ACTION = r"[\s\[\],}]*+"
_ACTING = Mode(Kind.COLLECTED, Marks(_ACTION_END), head=record_head("parameters", _BEFORE_ACTION), many=True)
_NEXT = {_TEXT: _CONTENT, _RESPONSE: _CONTENT, _ACTION: _ACTING, _TURN_END: _BETWEEN}

_SIGNS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}]', re.DOTALL)


class CohereParser(MarkedParser):
    """thinks: the answer begins inside the thinking; continues: inside a text, which the request began."""

    def __init__(self, *, thinks: bool, continues: bool) -> None:
        super().__init__(_CONTENT if continues else _THINKING if thinks else _BETWEEN)
        self._skip_blanks = self._mode is _BETWEEN

    def _meet(self, mark: str, text: str) -> None:
        if mark == _ACTION_END:
            self._read_calls(text)
        self._enter(_BETWEEN, skip_blanks=True)

    def _read(self) -> bool:
        """Between blocks a tag opens the next one; any other text is content, too."""
        if self._mode is not _BETWEEN:
            return super()._read()
        for tag, mode in _NEXT.items():
            seen = self._text.peek(len(tag))
            if seen == tag:
                self._text.skip(len(tag))
                self._enter(mode, skip_blanks=mode is _BETWEEN)
                return True
            if tag.startswith(seen):
                return False
        self._enter(_CONTENT)
        return True

    def _name_of(self, head: re.Match[str]) -> str:
        name = {key.lower(): value for key, value in members_of(head).items()}.get("tool_name")
        return name if isinstance(name, str) else ""

    def _end(self, text: str, partial: str) -> None:
        if self._mode is _BETWEEN:
            self._say(text + partial)
        else:
            self._read_calls(text + partial)

    def _read_calls(self, text: str) -> None:
        if not text.strip(BLANKS):
            return
        try:
            for name, arguments in [_call(item) for item in _list(loads(text))]:
                self._call(name, arguments)
        except Unreadable as error:
            self._read_each(text, str(error))

    def _read_each(self, text: str, why: str) -> None:
        objects = _objects(text)
        if not objects:
            self._unread(_ACTION + text + _ACTION_END, why)
        for written in objects:
            try:
                name, arguments = _call(loads_arguments(written))
            except Unreadable as error:
                self._unread(written, str(error))
            else:
                self._call(name, arguments)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Unreadable("the actions are not a list")
    return value


def _call(item: object) -> tuple[str, dict[str, object]]:
    if item is None:
        return "", {}
    if not isinstance(item, dict):
        raise Unreadable("an action is not an object")
    record = {key.lower(): value for key, value in item.items()}
    text_member(record, "tool_call_id")
    parameters = record.get("parameters")
    if not isinstance(parameters, dict | None):
        raise Unreadable("the parameters of an action are not an object")
    return text_member(record, "tool_name"), parameters or {}


def _objects(text: str) -> list[str]:
    """The objects in a text, braces in strings not counted."""
    found: list[str] = []
    depth = start = 0
    for sign in _SIGNS.finditer(text):
        if sign.group() == "{":
            start = start if depth else sign.start()
            depth += 1
        elif sign.group() == "}" and depth:
            depth -= 1
            if depth == 0:
                found.append(text[start : sign.end()])
    return found
