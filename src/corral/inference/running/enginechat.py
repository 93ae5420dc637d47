"""A chat that the engine templates and reads: the events of /v1/chat/completions. `ways/templated.py` calls it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from corral.answer.callobjects import loads_object
from corral.answer.callpieces import ARGUMENTS, WrittenCall
from corral.answer.toolcalls import new_call_id
from corral.core import CallPiece, Delta, Event, Notice, ToolCall
from corral.inference.running.cachereport import report_cache
from corral.inference.running.prefill import Events, engine_events
from corral.inference.running.run import Run, logprobs_of, progress_of
from corral.inference.running.window import overflow_notice, window_of
from corral.sched.request import Lease


async def run_chat(lease: Lease, body: dict[str, Any], run: Run, *, call_pieces: bool = False) -> AsyncIterator[Event]:
    """Deltas and progress of one /v1/chat/completions call; tool calls come whole, at the end.

    call_pieces: calls are shown while they are written, and each comes whole when the next thing begins.
    """
    calls = _Calls(shows=call_pieces)
    async with aclosing(_events(lease, body, run)) as source:
        async for chunk in source:
            if chunk.get("prompt_progress"):
                if body.get("return_progress"):
                    yield progress_of(chunk["prompt_progress"])
                continue
            _take_end(chunk, run)
            choice = _choice(chunk)
            delta = choice.get("delta") or {}
            events: list[Delta] = []
            going = True
            said = _delta(choice, delta, run)
            if said is not None:
                events += [*calls.behind(), said] if said.content or said.thinking else [said]
                going = run.take_piece(said.content + said.thinking)
            for piece in delta.get("tool_calls") or ():
                run.take_token()
                events += calls.take(piece)
            lease.eval_tokens = run.events
            for event in events if run.max_tokens else ():
                yield event
            if not going:
                break
    for event in calls.end() if run.max_tokens else ():
        yield event
    run.notices.extend(calls.notices)
    await _look_back(lease, body, run)


async def _look_back(lease: Lease, body: Mapping[str, Any], run: Run) -> None:
    """What the end of a run tells of it."""
    if run.fills(window_of(lease)):
        run.notices.append(overflow_notice(lease, stopped=run.window > 0))
    if run.wants_cache:
        run.cache = await report_cache(lease, partial(_prompt_tokens, lease, body), run)


def _events(lease: Lease, body: Mapping[str, Any], run: Run) -> Events:
    # what ended an answer stands in the debugging part of the last event only
    asked = {"return_progress": True, "verbose": True, "response_fields": ["stopping_word"]}
    return engine_events(lease, lease.runner.chat, {**body, **asked}, partial(_prompt_tokens, lease, body), run)


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
    if "__verbose" in chunk:
        run.stop_sequence = chunk["__verbose"].get("stopping_word") or None
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
    return Delta(content, thinking, (), logprobs_of(probabilities, run) if probabilities else ())


class _Call:
    """A call as far as the engine has read it."""

    def __init__(self, index: int, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.written = WrittenCall(ARGUMENTS, lambda _: self.name, index, lambda: call_id)
        self._pieces: list[str] = []

    def take(self, name: str, arguments: str) -> list[CallPiece]:
        """Add a piece; what can be shown with it."""
        self.name += name
        self._pieces.append(arguments)
        return self.written.feed(arguments)

    @property
    def text(self) -> str:
        """Its arguments so far."""
        return "".join(self._pieces)

    def whole(self) -> ToolCall | None:
        """The call; None when its arguments are no JSON object, as when the answer was cut short."""
        arguments = loads_object(self.text) if self.text.strip() else {}
        return None if arguments is None else ToolCall(self.name, arguments, self.id, self.index)


class _Calls:
    """Tool calls put together from their pieces. shows: the pieces are passed on."""

    def __init__(self, *, shows: bool) -> None:
        self.notices: list[Notice] = []
        self._shows = shows
        self._calls: dict[int, _Call] = {}  # by their place among all calls; when shown, it is one
        self._ended = 0

    def take(self, piece: Mapping[str, Any]) -> list[Delta]:
        """Add a piece of a call, which names its place."""
        place, function = int(piece.get("index", 0)), piece.get("function") or {}
        deltas: list[Delta] = []
        if place not in self._calls:
            deltas = self.behind()
            self._calls[place] = _Call(self._ended, piece.get("id") or new_call_id())
        shown = self._calls[place].take(function.get("name") or "", function.get("arguments") or "")
        if self._shows and shown:
            deltas.append(Delta(call_pieces=tuple(shown)))
        return deltas

    def behind(self) -> list[Delta]:
        """What follows a call when something else begins: its end, if calls are shown."""
        return self.end() if self._shows else []

    def end(self) -> list[Delta]:
        """The calls, whole; as text those that are not, unless they were shown."""
        calls = [call for _, call in sorted(self._calls.items())]
        self._calls.clear()
        if self._shows:
            return [self._end_shown(call) for call in calls]
        found = [(call, call.whole()) for call in calls]
        rest = "".join(self._unread(call) for call, whole in found if whole is None)
        made = [whole for _, whole in found if whole is not None]
        numbered = tuple(replace(whole, index=index) for index, whole in enumerate(made))
        return [Delta(content=rest, tool_calls=numbered)] if found else []

    def _end_shown(self, call: _Call) -> Delta:
        self._ended += 1
        whole = call.whole()
        pieces = (call.written.ended(whole),) if call.written.announced else ()
        if whole is not None:
            return Delta(tool_calls=(whole,), call_pieces=pieces)
        text = self._unread(call, was_shown=bool(pieces))
        return Delta(call_pieces=pieces) if pieces else Delta(content=text)

    def _unread(self, call: _Call, *, was_shown: bool = False) -> str:
        """The text of a call that is none, noted."""
        text = f'{{"name": {json.dumps(call.name)}, "arguments": {call.text}'
        where = "it was sent while it was written" if was_shown else "it is in the content"
        why = f"the model began a tool call and did not finish it as JSON; {where}"
        shown = text if len(text) <= 200 else text[:200] + "…"
        self.notices.append(Notice("tool_call_unparsed", why, {"text": shown}))
        return text
