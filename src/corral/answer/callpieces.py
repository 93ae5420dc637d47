"""Tool calls while the model writes them: pieces of their arguments' JSON, ahead of the whole call.

A call is announced when its name is known and its arguments have begun with a first key. Their text is passed on as it
comes, but for the last bracket, which follows when the parser has read the whole call and found the same. So the pieces
of a call that turns out to be none never join to JSON, and nobody acts on them. Only forms whose arguments are JSON can
be shown like this: what of others will become a string, a number or nothing at all is known at their end.

`toolcalls.py` and `parsers/marked.py` follow calls with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from corral.answer.jsontext import Unreadable, loads, loads_arguments
from corral.core import CallPiece, ToolCall

_LONGEST_HEAD = 4096  # characters before the arguments; no call has more, and each piece is matched anew
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_MEMBER = rf"\s*+{_STRING}\s*+:\s*+(?:{_STRING}|[-+.\w]++)\s*+,"
_OUTSIDE = re.compile(r'["\[\]{}]')
_INSIDE = re.compile(r'["\\]')

BEGUN = r'\s*+(?=\{\s*+")'
"""Where arguments begin."""

ARGUMENTS = re.compile(BEGUN)
"""The head of a call whose name is known already."""


def record_head(keys: str, before: str = "") -> re.Pattern[str]:
    """The head of calls that are objects, `{"name": …, "arguments": {`: scalar members, then one of the `keys`."""
    return re.compile(rf'{before}\s*+{{(?P<members>(?:{_MEMBER})*+)\s*+"(?i:{keys})"\s*+:{BEGUN}', re.DOTALL)


def members_of(head: re.Match[str]) -> Mapping[str, Any]:
    """The members in front of the arguments in a `record_head`; none when they are no JSON."""
    try:
        members = loads("{" + head["members"].rstrip().removesuffix(",") + "}")
    except Unreadable:
        return {}
    assert isinstance(members, dict)
    return members


class WrittenCall:
    """One call that is being written. head: what stands before its arguments; name_of: the function's name, from the
    head's match, or "" when this is not to be shown.
    """

    def __init__(
        self, head: re.Pattern[str], name_of: Callable[[re.Match[str]], str], index: int, new_id: Callable[[], str]
    ) -> None:
        self.name = ""
        self.index = index
        self.id = ""
        self.closed = False  # the arguments' last bracket was met
        self._head, self._name_of, self._new_id = head, name_of, new_id
        self._before = ""
        self._given_up = False
        self._depth = 0
        self._in_string = self._escaped = False
        self._sent: list[str] = []
        self._unsent: list[str] = []  # from the last bracket on

    @property
    def announced(self) -> bool:
        """Whether the client knows of the call."""
        return bool(self.name)

    def feed(self, text: str) -> list[CallPiece]:
        """What can be shown with this piece of the call's text."""
        if self._given_up:
            return []
        if self.announced:
            shown = self._arguments(text)
            return [CallPiece(self.index, self.id, arguments=shown)] if shown else []
        self._before += text
        head = self._head.match(self._before)
        if head is None:
            self._given_up = len(self._before) > _LONGEST_HEAD
            return []
        self.name = self._name_of(head)
        self._given_up = not self.name
        if self._given_up:
            return []
        self.id = self._new_id()
        return [CallPiece(self.index, self.id, self.name, self._arguments(self._before[head.end() :]))]

    def take_rest(self) -> str:
        """What was fed behind the last bracket, which belongs to what follows this call."""
        held = "".join(self._unsent)
        self._unsent = [held[:1]]
        return held[1:]

    def ended(self, call: ToolCall | None) -> CallPiece:
        """The last piece of an announced call; `call` as the parser has read it, None when it could not."""
        if call is not None and self._is(call):
            return CallPiece(self.index, self.id, arguments="}", end="whole")
        rest = "".join(self._unsent)
        if _is_object("".join(self._sent) + rest):
            rest = ""
        return CallPiece(self.index, self.id, arguments=rest, end="broken")

    def _is(self, call: ToolCall) -> bool:
        try:
            return self.closed and self.name == call.name and loads("".join(self._sent) + "}") == call.arguments
        except Unreadable:
            return False

    def _arguments(self, text: str) -> str:
        """The part of the text that is shown now."""
        if self.closed:
            self._unsent.append(text)
            return ""
        end = self._scan(text)
        self._sent.append(text[:end])
        self._unsent.append(text[end:])
        return text[:end]

    def _scan(self, text: str) -> int:
        """Where the last bracket stands, or the text's length."""
        at = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        while (sign := (_INSIDE if self._in_string else _OUTSIDE).search(text, at)) is not None:
            char, at = sign.group(), sign.end()
            if char == '"':
                self._in_string = not self._in_string
            elif char == "\\":
                self._escaped = at == len(text)
                at += 1  # past the end it finds nothing
            else:
                self._depth += 1 if char in "[{" else -1
                if self._depth == 0:
                    self.closed = True
                    return sign.start()
        return len(text)


def _is_object(text: str) -> bool:
    try:
        loads_arguments(text)
    except Unreadable:
        return False
    return True
