"""The forms in which a conversation is offered to a template that refuses it as it is. Pure; `inference/` calls it.

Templates raise where a conversation is not as their makers trained the model. `FORMS` are tried in this order, the
first that is taken stays. In none is anything lost; what is said stays where it was said.

| form     | what it does                                                                                           |
|----------|--------------------------------------------------------------------------------------------------------|
| as it is | nothing                                                                                                |
| ordered  | system messages at the start are one, later ones are the user's words; turns of one role in a row are  |
|          | one; the first turn is the user's                                                                      |
| calls    | as ordered; calls one at a time, each with its result right behind it, ids of nine letters and digits  |
| voiced   | as calls; what was thought before a call is said before it                                             |
| told     | as ordered; calls and their results are text of their turns                                            |
| unled    | as calls; what the system says begins the user's first turn                                            |
| plain    | as told and unled                                                                                      |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from corral.core import Message, ToolCall

Form = Callable[[Sequence[Message]], list[Message]]
_ID_LENGTH = 9  # of a call's id in Mistral's templates
_SPEAKERS = frozenset({"system", "user", "assistant", "tool"})


def settled(message: Message) -> Message:
    """The message with its images' places told: where nobody did, they are behind the text."""
    if not message.images or message.places:
        return message
    return replace(message, places=(len(message.content),) * len(message.images))


def joined(first: Message, second: Message, separator: str = "\n\n") -> Message:
    """Two messages as one of the first's role; images keep their places, calls their order."""
    one, two = settled(first), settled(second)
    between = separator if one.content and two.content else ""
    moved = len(one.content) + len(between)
    calls = (*one.tool_calls, *two.tool_calls)
    return replace(
        one,
        content=one.content + between + two.content,
        thinking="\n\n".join(filter(None, (one.thinking, two.thinking))),
        images=(*one.images, *two.images),
        places=(*one.places, *(place + moved for place in two.places)),
        tool_calls=tuple(replace(call, index=index) for index, call in enumerate(calls)),
    )


def wrapped(message: Message, before: str, after: str) -> Message:
    """The message with text around its content."""
    whole = settled(message)
    places = tuple(place + len(before) for place in whole.places)
    return replace(whole, content=before + whole.content + after, places=places)


def as_it_is(messages: Sequence[Message]) -> list[Message]:
    """The conversation."""
    return list(messages)


def ordered(messages: Sequence[Message]) -> list[Message]:
    """See the table at the top."""
    return _led_by_user(_merged(_placed_systems(messages)))


def with_plain_calls(messages: Sequence[Message]) -> list[Message]:
    """See the table at the top, form `calls`."""
    return _led_by_user(_merged(_paired_calls(_placed_systems(messages))))


def voiced(messages: Sequence[Message]) -> list[Message]:
    """See the table at the top."""
    return [_with_one_voice(message) for message in with_plain_calls(messages)]


def told(messages: Sequence[Message]) -> list[Message]:
    """See the table at the top."""
    return _led_by_user(_merged([_as_text(message) for message in _placed_systems(messages)]))


def unled(messages: Sequence[Message]) -> list[Message]:
    """See the table at the top."""
    return _without_system(with_plain_calls(messages))


def plain(messages: Sequence[Message]) -> list[Message]:
    """See the table at the top."""
    return _without_system(told(messages))


TELLING: frozenset[Form] = frozenset({told, plain})  # calls are text in these
FORMS: tuple[Form, ...] = (as_it_is, ordered, with_plain_calls, voiced, told, unled, plain)


def _placed_systems(messages: Sequence[Message]) -> list[Message]:
    """One system message, in front; later ones, and roles that no template knows, become the user's."""
    placed: list[Message] = []
    for message in messages:
        is_first = all(earlier.role == "system" for earlier in placed)
        if message.role == "system" and is_first:
            placed = [joined(placed[0], message)] if placed else [message]
        elif message.role == "system" or message.role not in _SPEAKERS:
            placed.append(replace(message, role="user"))
        else:
            placed.append(message)
    return placed


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role as one; results stay apart, each answers a call of its own."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role != "tool":
            merged[-1] = joined(merged[-1], message)
        else:
            merged.append(message)
    return merged


def _led_by_user(messages: Sequence[Message]) -> list[Message]:
    """A user's turn, if only an empty one, right behind the system's; a conversation of nothing else is the user's."""
    system = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(system) :])
    if not turns:
        return [replace(message, role="user") for message in system]
    return [*system, *turns] if turns[0].role == "user" else [*system, Message("user"), *turns]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    if len(messages) < 2 or messages[0].role != "system":
        return list(messages)
    return [joined(replace(messages[0], role="user"), messages[1]), *messages[2:]]


def _paired_calls(messages: Sequence[Message]) -> list[Message]:
    """Calls one at a time, their results behind them; a result that answers no call is told by the user.

    Calls that nobody answered get an empty result; a user's turn behind a result comes after an empty answer.
    """
    paired: list[Message] = []
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        if message.tool_calls:
            results = _results(messages, place)
            place += len(results)
            paired += _one_by_one(message, results)
        elif message.role == "tool":
            paired.append(_as_text(message))
        else:
            if message.role == "user" and paired and paired[-1].role == "tool":
                paired.append(Message("assistant"))
            paired.append(message)
    return paired


def _results(messages: Sequence[Message], start: int) -> list[Message]:
    """The run of results that begins here."""
    end = start
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    return list(messages[start:end])


def _one_by_one(message: Message, results: list[Message]) -> list[Message]:
    turns: list[Message] = []
    said = replace(message, tool_calls=())
    for call in message.tool_calls:
        answer = _answer_to(call, results)
        short = _short_id(call, len(turns))
        turns.append(replace(said, tool_calls=(replace(call, id=short, index=0),)))
        turns.append(replace(answer, tool_call_id=short, tool_name=call.name))
        said = Message("assistant")
    if results:  # that answer no call: the user's words, which come behind an answer
        turns.append(Message("assistant"))
    return turns + [_as_text(result) for result in results]


def _answer_to(call: ToolCall, results: list[Message]) -> Message:
    """The result of a call, taken from the list: by its id, else the first without one."""
    for wanted in (call.id, ""):
        for result in results:
            if result.tool_call_id == wanted:
                results.remove(result)
                return result
    return Message("tool")


def _short_id(call: ToolCall, place: int) -> str:
    if len(call.id) == _ID_LENGTH and call.id.isascii() and call.id.isalnum():
        return call.id
    return hashlib.sha256(f"{place} {call.id} {call.name}".encode()).hexdigest()[:_ID_LENGTH]


def _with_one_voice(message: Message) -> Message:
    if not (message.tool_calls and message.thinking and message.content):
        return message
    return replace(wrapped(message, f"{message.thinking}\n\n", ""), thinking="")


def _as_text(message: Message) -> Message:
    """Calls and results as words of the turn they belong to."""
    if message.tool_calls:
        calls = "\n".join(_told_call(call) for call in message.tool_calls)
        return joined(replace(message, tool_calls=()), Message(message.role, calls))
    if message.role == "tool":
        name = f" of {message.tool_name}" if message.tool_name else ""
        result = wrapped(message, f"[result{name}]\n", "")
        return replace(result, role="user", tool_name="", tool_call_id="")
    return message


def _told_call(call: ToolCall) -> str:
    return f"[call of {call.name}] {json.dumps(call.arguments, ensure_ascii=False)}"
