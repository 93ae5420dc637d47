"""Conversations in the form of the engine, whose template makes the prompt: messages, tools, what to do with them.

Called by templated.py, and by prompts.py for `/apply-template`. Source of the mapping: ollama llm/llama_server.go
nativeChatMessages, 2026-08.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from corral.core import Message, Think, Tool, ToolChoice
from corral.inference.preparing.sounds import is_sound
from corral.prompt.gorender import thinks
from corral.prompt.turns import settled
from corral.sched.request import Lease


def engine_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in the engine's (OpenAI's) form.

    Thinking of earlier turns is among it: what of it the model sees again (in tool loops, most of it) is the template's
    business. Ollama leaves it out here, and so loses what models think between calls.
    """
    return [_engine_message(message) for message in messages]


def engine_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in the engine's form, schemas whole."""
    return [
        {
            "type": tool.type,
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def tool_choice_fields(tools: Sequence[Tool], choice: ToolChoice) -> dict[str, Any]:
    """`tools` and what of them must or may be called; a named one is required by being the only one offered."""
    if not tools:
        return {}
    if choice.mode == "named":
        named = [tool for tool in tools if tool.name == choice.name]
        return {"tools": engine_tools(named), "tool_choice": "required", "parallel_tool_calls": choice.parallel}
    return {"tools": engine_tools(tools), "tool_choice": choice.mode, "parallel_tool_calls": choice.parallel}


def think_fields(think: Think) -> dict[str, Any]:
    """What the template is told about thinking; nothing when the request leaves it open."""
    if think is None:
        return {}
    kwargs: dict[str, Any] = {"enable_thinking": thinks(think)}
    if isinstance(think, str):
        kwargs["reasoning_effort"] = think
    return {"chat_template_kwargs": kwargs}


async def apply_template(
    lease: Lease, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], think: Think
) -> str:
    """The prompt that the engine's template makes of a conversation."""
    body: dict[str, Any] = {"messages": list(messages), **think_fields(think)}
    if tools:
        body["tools"] = engine_tools(tools)
    return await lease.runner.apply_template(body)


def _engine_message(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.thinking and message.role == "assistant":
        out["reasoning_content"] = message.thinking
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.id or f"call_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for index, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    if message.tool_name:
        out["name"] = message.tool_name
    return out


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content
    parts: list[dict[str, Any]] = []
    done = 0
    for data, place in zip(message.images, settled(message).places, strict=True):
        parts += [*_text(message.content[done:place]), _media(data)]
        done = place
    return [*parts, *_text(message.content[done:])]


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _media(data: bytes) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    if is_sound(data):
        kind = "wav" if data[:4] == b"RIFF" else "mp3"  # the engine goes by the bytes, but older ones want such a word
        return {"type": "input_audio", "input_audio": {"data": text, "format": kind}}
    return {"type": "image_url", "image_url": {"url": f"data:{_image_type(data)};base64,{text}"}}


def _image_type(data: bytes) -> str:
    if data[:2] == b"\xff\xd8":
        return "image/jpeg"
    return "image/bmp" if data[:2] == b"BM" else "image/png"
