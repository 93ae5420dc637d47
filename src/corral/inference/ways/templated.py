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
from corral.errors import EngineError, TemplateRefused
from corral.inference.running.completion import place_images, run_completion
from corral.inference.running.enginechat import run_chat
from corral.inference.running.longtext import count_tokens
from corral.inference.running.run import Run
from corral.inference.running.sampling import chat_fields, completion_fields
from corral.inference.running.specials import end_tokens
from corral.inference.running.window import surely_fits, window_of
from corral.inference.ways.conversation import Conversation
from corral.inference.ways.messages import (
    apply_template,
    engine_messages,
    engine_tools,
    think_fields,
    tool_choice_fields,
)
from corral.inference.ways.shaping import CALLS_TOLD, Shaped, Shaping, is_delicate, refuses_conversation
from corral.prompt.gorender import tag_images
from corral.prompt.turns import settled

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
        self._shaping = Shaping(self._template)

    async def count(self, messages: Sequence[Message], *, exact: bool = False, within: int = 0) -> int:
        """Prompt tokens by the engine's template and tokenizer; plain bytes when those clearly fit."""
        lease = self._chat.lease
        bound = self._bytes(messages)
        window = window_of(lease)
        if not exact and window >= _SMALL_WINDOW and bound * _SAFE_SHARE < window:
            return bound
        text = (await self._shaped(messages)).text
        if exact:
            return await lease.runner.count_tokens(text)
        size = len(text.encode())
        return size if surely_fits(size, window) else await count_tokens(lease, text, max(within, window))

    async def show(self, messages: Sequence[Message]) -> Rendered:
        """The prompt as the engine's template makes it."""
        text = (await self._shaped(messages)).text
        return Rendered(text, sum(len(message.images) for message in messages))

    async def run(self, messages: Sequence[Message], run: Run) -> AsyncIterator[Event]:
        """The engine's answer."""
        chat = self._chat
        offered = messages
        if is_delicate(messages):
            shaped = await self._shaped(messages)
            run.notices += [CALLS_TOLD] if shaped.tells_calls else []
            offered = shaped.messages
        fields = chat_fields_of(
            chat.parameters.constraint,
            budget=_budget(chat.think),
            ends=end_tokens(chat.model),
            llguidance=chat.prepared.llguidance,
        )
        await check_whole(chat.trial, fields.body)
        run.notices.extend(fields.notices)
        streamed = False
        try:
            async for event in self._run(offered, fields.body, run):
                streamed = streamed or isinstance(event, Delta)
                yield event
        except EngineError as error:
            if streamed:
                raise
            async for event in self._run_otherwise(messages, offered, fields.body, run, error):
                yield event

    async def _run(self, messages: Sequence[Message], constraint: Mapping[str, Any], run: Run) -> AsyncIterator[Event]:
        """The engine's answer; where it refuses the tools' schemas, without these."""
        chat = self._chat
        body: dict[str, Any] = {
            "messages": engine_messages(messages),
            **chat_fields(chat.prepared.choices, chat.parameters, window_of(chat.lease)),
            **think_fields(chat.think),
            **constraint,
        }
        begun = False
        try:
            async for event in self._call(body, run):
                begun = True
                yield event
        except EngineError as error:
            if begun or refuses_conversation(error) or not self._strip(error.status):
                raise
            async for event in self._call(body, run):
                yield event

    def _call(self, body: Mapping[str, Any], run: Run) -> AsyncIterator[Event]:
        chat = self._chat
        whole = {**body, **tool_choice_fields(self._tools, chat.tool_choice)}
        return run_chat(chat.lease, whole, run, call_pieces=chat.parameters.call_pieces)

    async def _run_otherwise(
        self,
        messages: Sequence[Message],
        offered: Sequence[Message],
        constraint: Mapping[str, Any],
        run: Run,
        error: EngineError,
    ) -> AsyncIterator[Event]:
        """The answer to a conversation that the engine refused: in another form, else without its tools' grammar."""
        shaped = await self._shaped(messages)  # raises what a template says that takes no form of it
        if shaped.messages != list(offered):
            run.notices += [CALLS_TOLD] if shaped.tells_calls else []
            async for event in self._run(shaped.messages, constraint, run):
                yield event
        elif self._chat.tools and error.status >= _SERVER_ERROR:
            async for event in self._run_unbound(shaped, run):
                yield event
        else:
            raise error

    async def _run_unbound(self, shaped: Shaped, run: Run) -> AsyncIterator[Event]:
        """The answer as plain text. The engine gives a call up whole when a token crosses from its beginning into what
        the call's grammar forbids; the text is worth more to the client than an error.
        """
        chat = self._chat
        fields = completion_fields(chat.prepared.choices, chat.parameters, window_of(chat.lease))
        why = "the engine could not bind the tool call to its schema; the answer is passed on as text"
        run.notices.append(Notice("tool_call_unparsed", why))
        images = [image for message in shaped.messages for image in message.images]
        prompt = await place_images(chat.lease, shaped.text, images) if images else shaped.text
        async for event in run_completion(chat.lease, {"prompt": prompt, **fields}, run):
            yield event

    async def _shaped(self, messages: Sequence[Message]) -> Shaped:
        """The conversation as the template takes it, if need be without the tools' schemas."""
        try:
            return await self._shaping.shape(messages)
        except TemplateRefused:
            if not self._strip():
                raise
            self._shaping = Shaping(self._template)
            return await self._shaping.shape(messages)

    async def _template(self, messages: Sequence[Message]) -> str:
        """The engine's prompt, images as `[img-N]`; where it refuses the tools' schemas, without these."""
        chat = self._chat
        tagged = tag_images([settled(message) for message in messages]).messages
        offered = engine_messages([replace(message, images=()) for message in tagged])
        try:
            return await apply_template(chat.lease, offered, self._tools, chat.think)
        except EngineError as error:
            if refuses_conversation(error) or not self._strip(error.status):
                raise
            return await apply_template(chat.lease, offered, self._tools, chat.think)

    def _strip(self, status: int = 0) -> bool:
        """Whether to try again, with tools whose schemas nothing can be wrong with."""
        stripped, notices = bare(self._tools)
        if status >= _SERVER_ERROR or not stripped or stripped == self._tools:
            return False
        self._tools = stripped
        self._chat.notices.extend(notices)
        return True

    def _bytes(self, messages: Sequence[Message]) -> int:
        texts = sum(len((message.content + message.thinking).encode()) + _TURN_BYTES for message in messages)
        calls = sum(len(str(call.arguments)) for message in messages for call in message.tool_calls)
        return texts + calls + len(msgspec.json.encode(engine_tools(self._tools)))


def _budget(think: Think) -> int | None:
    """Most thinking tokens, when the request says a number."""
    return think if isinstance(think, int) and not isinstance(think, bool) else None
