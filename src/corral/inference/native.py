"""The native path: messages go to the engine, which templates them with the GGUF's own Jinja and parses the answer.

Called by chat.py, and by generate.py for `/apply-template`. Source of the mapping: ollama llm/llama_server.go
nativeChatMessages, 2026-08.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from corral.core import Delta, Event, Message, Notice, Think, Tool, ToolCall, ToolChoice
from corral.inference.images import is_sound
from corral.inference.prefill import Events, engine_events
from corral.inference.rendered import overflow_notice, window_of
from corral.inference.run import Run, logprobs_of, progress_of
from corral.prompt.gorender import thinks
from corral.prompt.toolcalls import loads_object
from corral.sched.request import Lease


def native_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in the engine's (OpenAI's) form; thinking of earlier turns is not sent."""
    return [_native_message(message) for message in messages]


def native_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
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
        return {"tools": native_tools(named), "tool_choice": "required", "parallel_tool_calls": choice.parallel}
    return {"tools": native_tools(tools), "tool_choice": choice.mode, "parallel_tool_calls": choice.parallel}


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
        body["tools"] = native_tools(tools)
    return await lease.runner.apply_template(body)


async def run_chat(lease: Lease, body: dict[str, Any], run: Run) -> AsyncIterator[Event]:
    """Deltas and progress of one /v1/chat/completions call; tool calls come whole, at the end."""
    calls = _Calls()
    async with aclosing(_events(lease, body, run)) as source:
        async for chunk in source:
            if chunk.get("prompt_progress"):
                if body.get("return_progress"):
                    yield progress_of(chunk["prompt_progress"])
                continue
            _take_end(chunk, run)
            choice = _choice(chunk)
            delta = choice.get("delta") or {}
            calls.take(delta.get("tool_calls") or ())
            event = _delta(choice, delta, run)
            if event is None:
                continue
            going = run.take_piece(event.content + event.thinking)
            lease.eval_tokens = run.events
            if run.max_tokens:
                yield event
            if not going:
                break
    made, rest = calls.finished()
    if (made or rest) and run.max_tokens:
        yield Delta(content=rest, tool_calls=made)
    if rest:
        run.notices.append(_unparsed(rest))
    if run.window_is_full(window_of(lease)):
        run.notices.append(overflow_notice(lease))


def _events(lease: Lease, body: Mapping[str, Any], run: Run) -> Events:
    call = partial(lease.runner.chat, {**body, "return_progress": True})
    return engine_events(lease, call, partial(_prompt_tokens, lease, body), run)


async def _prompt_tokens(lease: Lease, body: Mapping[str, Any]) -> Sequence[int] | None:
    if any(isinstance(message["content"], list) for message in body["messages"]):
        return None
    return await lease.runner.tokenize(await lease.runner.apply_template(dict(body)), add_special=True)


def _choice(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = chunk.get("choices") or [{}]
    return choices[0]  # type: ignore[no-any-return]


def _take_end(chunk: Mapping[str, Any], run: Run) -> None:
    if "timings" in chunk:
        run.timings = chunk["timings"]
    finish = _choice(chunk).get("finish_reason")
    if finish:
        run.reason = "length" if finish == "length" else "stop"


def _delta(choice: Mapping[str, Any], delta: Mapping[str, Any], run: Run) -> Delta | None:
    content, thinking = delta.get("content") or "", delta.get("reasoning_content") or ""
    probabilities = (choice.get("logprobs") or {}).get("content") or ()
    if not (content or thinking or probabilities):
        return None
    if thinking:
        run.thinking_tokens += 1
    return Delta(content, thinking, (), logprobs_of(probabilities, run.want_top) if probabilities else ())


class _Calls:
    """Tool calls put together from their pieces."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[str, str]] = {}

    def take(self, pieces: Sequence[Mapping[str, Any]]) -> None:
        """Add pieces of calls; each names its place."""
        for piece in pieces:
            part = self._parts.setdefault(int(piece.get("index", 0)), {"id": "", "name": "", "arguments": ""})
            function = piece.get("function") or {}
            part["id"] += piece.get("id") or ""
            part["name"] += function.get("name") or ""
            part["arguments"] += function.get("arguments") or ""

    def finished(self) -> tuple[tuple[ToolCall, ...], str]:
        """The whole calls, and as text those whose arguments are no JSON object, as when the answer was cut short."""
        whole: list[ToolCall] = []
        rest = ""
        for _, part in sorted(self._parts.items()):
            arguments = loads_object(part["arguments"]) if part["arguments"].strip() else {}
            if arguments is None:
                rest += f'{{"name": {json.dumps(part["name"])}, "arguments": {part["arguments"]}'
            else:
                whole.append(ToolCall(part["name"], arguments, part["id"], len(whole)))
        return tuple(whole), rest


def _unparsed(text: str) -> Notice:
    why = "the model began a tool call and did not finish it as JSON; it is in the content"
    return Notice("tool_call_unparsed", why, {"text": text if len(text) <= 200 else text[:200] + "…"})


def _native_message(message: Message) -> dict[str, Any]:
    # Jinja templates know no "developer", OpenAI's newer word for the system's turn, and refuse unknown roles.
    role = "system" if message.role == "developer" else message.role
    out: dict[str, Any] = {"role": role, "content": _content(message)}
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
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    return parts + [_media(data) for data in message.images]


def _media(data: bytes) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    if is_sound(data):
        kind = "wav" if data[:4] == b"RIFF" else "mp3"
        return {"type": "input_audio", "input_audio": {"data": text, "format": kind}}
    return {"type": "image_url", "image_url": {"url": f"data:{_image_type(data)};base64,{text}"}}


def _image_type(data: bytes) -> str:
    if data[:2] == b"\xff\xd8":
        return "image/jpeg"
    return "image/bmp" if data[:2] == b"BM" else "image/png"
