"""Offers a conversation to a template in the forms of `prompt/turns.py` until one is taken. Both ways of chatting do.

Each conversation is offered as it is first, so that its prompt does not depend on what was asked before, and what the
cache has of it is found again. One request begins with the form that it ended with last time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from corral.core import Message, Notice
from corral.errors import CorralError, EngineError, InvalidRequest, TemplateError, TemplateRefused
from corral.prompt.turns import FORMS, TELLING

_REASON_MARKS = ("Jinja Exception: ", "\nError: ", "generation failed: ")  # the one nearest to the reason first
_WORD = re.compile(r"[A-Za-z0-9]{2,}")
_MOST_LOOKED_AT = 2000  # characters of a text whose words are looked for
Render = Callable[[Sequence[Message]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Shaped:
    """A conversation in the form that its template takes, and the prompt that it makes of it."""

    messages: Sequence[Message]
    text: str
    tells_calls: bool = False  # as text


CALLS_TOLD = Notice(
    "calls_as_text", "the model's chat template takes no tool calls; those of the conversation stand in it as text"
)


class Shaping:
    """The forms of one request's conversation. A form that leaves turns out is not taken either.

    may_leave_out: roles that may be missing, as Ollama leaves calls and results ("tool") out of Go templates without
    tools, and instructions out of those that have no place for any.
    """

    def __init__(self, render: Render, *, may_leave_out: frozenset[str] = frozenset()) -> None:
        self._render = render
        self._may_leave_out = may_leave_out
        self._form = 0
        self._last: tuple[Sequence[Message], Shaped] | None = None

    async def shape(self, messages: Sequence[Message]) -> Shaped:
        """The first form that is taken; raises TemplateRefused or TemplateError when none is."""
        if self._last is not None and self._last[0] == messages:
            return self._last[1]
        refusal: CorralError | None = None
        lossy: Shaped | None = None
        tried: list[Message] | None = None
        for number in range(self._form, len(FORMS)):
            offered = FORMS[number](messages)
            if offered == tried:
                continue
            tried = offered
            try:
                shaped = Shaped(offered, await self._render(offered), FORMS[number] in TELLING)
            except (EngineError, TemplateError) as error:
                refusal = refusal or error
                continue
            if any(_kind(turn) not in self._may_leave_out for turn in left_out(messages, shaped.text)):
                lossy = lossy or shaped
                continue
            self._form = number
            return self._keep(messages, shaped)
        if lossy is not None:
            return self._keep(messages, lossy)
        assert refusal is not None
        raise _readable(refusal) from refusal

    def _keep(self, messages: Sequence[Message], shaped: Shaped) -> Shaped:
        self._last = (messages, shaped)
        return shaped


def refuses_conversation(error: EngineError) -> bool:
    """Whether it is the template that has refused, by its own `raise_exception`."""
    return _REASON_MARKS[0] in error.message


def is_delicate(messages: Sequence[Message]) -> bool:
    """Whether there are turns that templates are known to leave out without a word."""
    return bool(_delicate(messages))


def left_out_notices(messages: Sequence[Message], text: str) -> list[Notice]:
    """Names the turns that a template which is not offered other forms has left out."""
    roles = [message.role for message in left_out(messages, text)]
    if not roles:
        return []
    words = ", ".join(sorted(set(roles)))
    why = f"the model's template shows nothing of {len(roles)} messages of the conversation ({words})"
    return [Notice("messages_left_out", why, {"count": len(roles), "roles": sorted(set(roles))})]


def left_out(messages: Sequence[Message], text: str) -> list[Message]:
    """Of the turns that templates are known to leave out, those that a prompt does not show."""
    return [message for message in _delicate(messages) if not all(_shows(text, told) for told in _told(message))]


def _kind(message: Message) -> str:
    """The role; "tool" for calls as for their results."""
    return "tool" if message.tool_calls else message.role


def _delicate(messages: Sequence[Message]) -> list[Message]:
    """System messages beside others or without a user's turn, calls and results, roles that nobody knows."""
    roles = [message.role for message in messages]
    systems = roles.count("system") > 1 or "user" not in roles or roles[0] != "system"
    return [
        message
        for message in messages
        if message.tool_calls or (systems if message.role == "system" else message.role not in {"user", "assistant"})
    ]


def _told(message: Message) -> list[str]:
    """The texts that a prompt must show of a message: its content, or its calls."""
    if not message.tool_calls:
        return [message.content]
    values = [value for call in message.tool_calls for value in call.arguments.values() if isinstance(value, str)]
    return [*values, *(call.name for call in message.tool_calls)]


def _shows(text: str, told: str) -> bool:
    """Whether a text stands in another as it is, as JSON, or word by word in some other way of writing it."""
    told = told.strip()
    if told in text or any(json.dumps(told, ensure_ascii=ascii_only)[1:-1] in text for ascii_only in (False, True)):
        return True
    words = _WORD.findall(told[:_MOST_LOOKED_AT])
    return bool(words) and all(word in text for word in words)


def _readable(error: CorralError) -> CorralError:
    """The template's own words, without the trace of the engine around them."""
    if not isinstance(error, EngineError):
        return error
    mark = next((mark for mark in _REASON_MARKS if mark in error.message), None)
    if mark is None:
        return error
    reason = error.message.rpartition(mark)[2].split("\n")[0].strip()
    if reason.startswith("JSON schema error"):  # no fault of the conversation
        return InvalidRequest(reason, field="tools")
    return TemplateRefused(reason)
