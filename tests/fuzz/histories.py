"""Conversations as clients of all four APIs send them, drawn once and written in each API's form."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from PIL import Image


@dataclass(frozen=True)
class Call:
    """A call and its result; each text is unlike all others."""

    id: str
    name: str
    argument: str
    result: str


@dataclass(frozen=True)
class Turn:
    """One turn; `images` stand behind the text."""

    role: str  # system, developer, user, assistant
    text: str = ""
    images: int = 0
    thinking: str = ""
    calls: tuple[Call, ...] = field(default=())


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Users ask, perhaps twice; assistants answer, call, do both or neither; instructions stand anywhere."""
    turns: list[Turn] = []
    for number in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["user", "user", "user", "assistant", "assistant", "system", "developer"]))
        blank = draw(st.sampled_from(["", "", "\n", " "]))
        text = f"{blank}word{number}x"
        if role == "assistant":
            count = draw(st.integers(0, 2))
            ids = draw(st.sampled_from(["call_{}_{}", "c{}{}", "toolu_{}{}", "{}-{}"]))
            calls = tuple(
                Call(
                    ids.format(number, n),
                    draw(st.sampled_from(["look", "seek"])),
                    f"arg{number}x{n}",
                    f"got{number}x{n}",
                )
                for n in range(count)
            )
            thinking = draw(st.sampled_from(["", "hm"]))
            turns.append(Turn(role, draw(st.sampled_from([text, ""])) if calls else text, 0, thinking, calls))
        else:
            images = draw(st.sampled_from([0, 0, 0, 1, 2])) if role == "user" else 0
            turns.append(Turn(role, text, images))
    if turns[-1].role != "user" and not turns[-1].calls:
        turns.append(Turn("user", "last9x"))
    return turns


def words(turns: list[Turn]) -> list[str]:
    """All that the model must be told of."""
    found = [turn.text.strip() for turn in turns if turn.text.strip()]
    return found + [word for turn in turns for call in turn.calls for word in (call.argument, call.result)]


def _picture() -> str:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


PICTURE = _picture()


def native(turns: list[Turn]) -> dict[str, Any]:
    """/api/chat."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.text}
        if turn.images:
            message["images"] = [PICTURE] * turn.images
        if turn.thinking:
            message["thinking"] = turn.thinking
        if turn.calls:
            message["tool_calls"] = [
                {"id": call.id, "function": {"name": call.name, "arguments": {"what": call.argument}}}
                for call in turn.calls
            ]
        messages.append(message)
        messages += [
            {"role": "tool", "tool_name": call.name, "tool_call_id": call.id, "content": call.result}
            for call in turn.calls
        ]
    return {"messages": messages}


def openai(turns: list[Turn]) -> dict[str, Any]:
    """/v1/chat/completions."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        content: Any = turn.text
        if turn.images:
            url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
            content = [{"type": "text", "text": turn.text}, *[url] * turn.images]
        message: dict[str, Any] = {"role": turn.role, "content": content or None}
        if turn.thinking:
            message["reasoning"] = turn.thinking
        if turn.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps({"what": call.argument})},
                }
                for call in turn.calls
            ]
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": call.id, "content": call.result} for call in turn.calls]
    return {"messages": messages}


def responses(turns: list[Turn]) -> dict[str, Any]:
    """/v1/responses."""
    items: list[dict[str, Any]] = []
    for turn in turns:
        if turn.thinking:
            items.append({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]})
        kind = "output_text" if turn.role == "assistant" else "input_text"
        parts: list[dict[str, Any]] = [{"type": kind, "text": turn.text}] if turn.text else []
        parts += [{"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}] * turn.images
        if parts:
            items.append({"type": "message", "role": turn.role, "content": parts})
        for call in turn.calls:
            arguments = json.dumps({"what": call.argument})
            items.append({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
        items += [{"type": "function_call_output", "call_id": call.id, "output": call.result} for call in turn.calls]
    return {"input": items, "store": False}


def anthropic(turns: list[Turn]) -> dict[str, Any]:
    """/v1/messages; it has no developer."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        blocks: list[dict[str, Any]] = (
            [{"type": "thinking", "thinking": "hm", "signature": ""}] if turn.thinking else []
        )
        blocks += [{"type": "text", "text": turn.text}] if turn.text else []
        blocks += [{"type": "image", "source": source}] * turn.images
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": {"what": call.argument}}
            for call in turn.calls
        ]
        messages.append({"role": "system" if turn.role == "developer" else turn.role, "content": blocks})
        if turn.calls:
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": call.result} for call in turn.calls]
            messages.append({"role": "user", "content": results})
    return {"messages": messages, "max_tokens": 5}


FORMS: dict[str, Callable[[list[Turn]], dict[str, Any]]] = {
    "/api/chat": native,
    "/v1/chat/completions": openai,
    "/v1/responses": responses,
    "/v1/messages": anthropic,
}


def _roles(messages: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]


def _alternates(messages: list[dict[str, Any]]) -> str:
    turns = _roles(messages)[_roles(messages)[:1] == ["system"] :]
    right = all(role == ("assistant" if place % 2 else "user") for place, role in enumerate(turns))
    return "" if right else "Conversation roles must alternate user/assistant/user/assistant/..."


def _without_system(messages: list[dict[str, Any]]) -> str:
    return "System role not supported" if "system" in _roles(messages) else _alternates(messages)


def _system_first(messages: list[dict[str, Any]]) -> str:
    return "System message must be at the beginning." if "system" in _roles(messages)[1:] else ""


def _with_user(messages: list[dict[str, Any]]) -> str:
    known = set(_roles(messages)) <= {"system", "user", "assistant", "tool"}
    return "" if "user" in _roles(messages) and known else "No user query found in messages."


# what a template refuses, by name
TEMPLATES: dict[str, Callable[[list[dict[str, Any]]], str] | None] = {
    "tolerant": None,
    "alternating": _alternates,
    "no-system": _without_system,
    "system-first": _system_first,
    "needs-user": _with_user,
}
