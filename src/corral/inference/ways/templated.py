"""A conversation that the engine templates, with the GGUF's Jinja, and whose answer it parses. Called by chat.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from corral.constraint.checks import check_whole
from corral.constraint.enginetools import bare, convertible
from corral.constraint.fields import chat_fields as chat_fields_of
from corral.core import Delta, Event, Message, Notice, Rendered, Think
from corral.errors import EngineError
from corral.inference.running.completion import run_completion
from corral.inference.running.enginechat import run_chat
from corral.inference.running.run import Run
from corral.inference.running.sampling import chat_fields, completion_fields
from corral.inference.running.specials import end_tokens
from corral.inference.running.window import window_of
from corral.inference.ways.conversation import Conversation
from corral.inference.ways.messages import (
    apply_template,
    engine_messages,
    engine_tools,
    think_fields,
    tool_choice_fields,
)

_SAFE_SHARE = 2  # a prompt whose plain bytes fill less than 1/2 of the window fits with any template around it
_SMALL_WINDOW = 1024  # but with small windows the template itself may be most of it
_TURN_BYTES = 64
_SERVER_ERROR = 500


class TemplatedChat:
    """See conversation.Way."""

    def __init__(self, conversation: Conversation) -> None:
        self._chat = conversation
        self._tools, notices = convertible(conversation.tools)
        conversation.notices += notices

    async def count(self, messages: Sequence[Message], *, exact: bool = False) -> int:
        """Prompt tokens by the engine's template and tokenizer; plain bytes when those clearly fit."""
        chat = self._chat
        bound = self._bytes(messages)
        window = window_of(chat.lease)
        if not exact and window >= _SMALL_WINDOW and bound * _SAFE_SHARE < window:
            return bound
        text = await self._apply([replace(message, images=()) if message.images else message for message in messages])
        if not exact and len(text.encode()) <= window:
            return len(text.encode())
        return len(await chat.lease.runner.tokenize(text))

    async def show(self, messages: Sequence[Message]) -> Rendered:
        """The prompt as the engine's template makes it."""
        text = await self._apply(messages)
        return Rendered(text, sum(len(message.images) for message in messages))

    async def run(self, messages: Sequence[Message], run: Run) -> AsyncIterator[Event]:
        """The engine's answer."""
        chat = self._chat
        fields = chat_fields_of(
            chat.parameters.constraint,
            budget=_budget(chat.think),
            ends=end_tokens(chat.model),
            llguidance=chat.prepared.llguidance,
        )
        await check_whole(chat.trial, fields.body)
        run.notices.extend(fields.notices)
        body: dict[str, Any] = {
            "messages": engine_messages(messages),
            **chat_fields(chat.prepared.choices, chat.parameters, window_of(chat.lease)),
            **think_fields(chat.think),
            **fields.body,
        }
        streamed = False
        try:
            async for event in self._answer(body, run):
                streamed = streamed or isinstance(event, Delta)
                yield event
        except EngineError as error:
            if streamed or not chat.tools or error.status < _SERVER_ERROR:
                raise
            async for event in self._run_unbound(messages, run):
                yield event

    async def _answer(self, body: Mapping[str, Any], run: Run) -> AsyncIterator[Event]:
        """The engine's answer; where it refuses the tools' schemas, without these."""
        begun = False
        try:
            async for event in self._call(body, run):
                begun = True
                yield event
        except EngineError as error:
            if begun or not self._strip(error):
                raise
            async for event in self._call(body, run):
                yield event

    def _call(self, body: Mapping[str, Any], run: Run) -> AsyncIterator[Event]:
        chat = self._chat
        whole = {**body, **tool_choice_fields(self._tools, chat.tool_choice)}
        return run_chat(chat.lease, whole, run, call_pieces=chat.parameters.call_pieces)

    async def _apply(self, messages: Sequence[Message]) -> str:
        """The prompt; where the engine refuses the tools' schemas, without these."""
        chat = self._chat
        try:
            return await apply_template(chat.lease, engine_messages(messages), self._tools, chat.think)
        except EngineError as error:
            if not self._strip(error):
                raise
            return await apply_template(chat.lease, engine_messages(messages), self._tools, chat.think)

    def _strip(self, error: EngineError) -> bool:
        """Whether to try again, with tools whose schemas nothing can be wrong with."""
        stripped, notices = bare(self._tools)
        if error.status >= _SERVER_ERROR or not stripped or stripped == self._tools:
            return False
        self._tools = stripped
        self._chat.notices.extend(notices)
        return True

    async def _run_unbound(self, messages: Sequence[Message], run: Run) -> AsyncIterator[Event]:
        """The answer as plain text. The engine gives a call up whole when a token crosses from its beginning into what
        the call's grammar forbids; the text is worth more to the client than an error.
        """
        chat = self._chat
        text = await self._apply(messages)
        fields = completion_fields(chat.prepared.choices, chat.parameters, window_of(chat.lease))
        why = "the engine could not bind the tool call to its schema; the answer is passed on as text"
        run.notices.append(Notice("tool_call_unparsed", why))
        async for event in run_completion(chat.lease, {"prompt": text, **fields}, run):
            yield event

    def _bytes(self, messages: Sequence[Message]) -> int:
        texts = sum(len((message.content + message.thinking).encode()) + _TURN_BYTES for message in messages)
        calls = sum(len(str(call.arguments)) for message in messages for call in message.tool_calls)
        return texts + calls + len(msgspec.json.encode(engine_tools(self._tools)))


def _budget(think: Think) -> int | None:
    """Most thinking tokens, when the request says a number."""
    return think if isinstance(think, int) and not isinstance(think, bool) else None
