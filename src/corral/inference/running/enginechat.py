"""A chat that the engine templates and reads: the events of /v1/chat/completions. `ways/templated.py` calls it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from corral.answer.toolcalls import loads_object
from corral.core import Delta, Event, Notice, ToolCall
from corral.inference.running.prefill import Events, engine_events
from corral.inference.running.run import Run, logprobs_of, progress_of
from corral.inference.running.window import overflow_notice, window_of
from corral.sched.request import Lease


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
