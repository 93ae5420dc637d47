"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, cast

from msgspec import UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.api.anthropic import MessagesRequest, TokenCount
from corral.core import ChatRequest, GenerationParameters, Notice
from corral.errors import InvalidRequest
from corral.server.answer import Answer
from corral.server.anthropic.messages import (
    read_conversation,
    read_output_format,
    read_think,
    read_tool_choice,
    read_tools,
    unsupported_think,
)
from corral.server.anthropic.replies import MessageEncoder, error_event, error_reply, whole_message
from corral.server.body import decode
from corral.server.deps import Deps, deps_of
from corral.server.openai.fields import common_of
from corral.server.openai.images import fetch_images
from corral.server.openai.wire import json_reply, read_request, with_pings
from corral.server.stream import SSE, EventStream, Reply

_STREAM_HEADERS = {"Cache-Control": "no-cache"}


async def messages(request: Request) -> Response:
    """Serve one message."""
    try:
        body, chat = await _chat_request(request, counting=False)
    except Exception as error:  # noqa: BLE001  the edge of the request: every error becomes its answer
        return error_reply(error)
    deps = deps_of(request)
    if not body.stream:
        return Reply(lambda: _whole(deps, body, chat), error_reply)
    encoder = MessageEncoder(body)
    frames = with_pings(encoder.frames(deps.inference.chat(chat)), deps.settings.ping_interval_s, encoder.ping)
    return EventStream(frames, bytes, media_type=SSE, fail=error_event, refuse=error_reply, headers=_STREAM_HEADERS)


async def count_tokens(request: Request) -> Response:
    """How many tokens the prompt of a message would have."""
    try:
        _, chat = await _chat_request(request, counting=True)
    except Exception as error:  # noqa: BLE001  the edge of the request: every error becomes its answer
        return error_reply(error)

    async def count() -> Response:
        return json_reply(TokenCount(await deps_of(request).inference.count_tokens(chat)))

    return Reply(count, error_reply)


async def _whole(deps: Deps, body: MessagesRequest, chat: ChatRequest) -> Response:
    answer = Answer()
    async with aclosing(cast("Any", deps.inference.chat(chat))) as events:
        async for event in events:
            answer.take(event)
    reply = whole_message(body, answer)
    return json_reply(reply, 0 if isinstance(reply.warnings, UnsetType) else len(reply.warnings))


async def _chat_request(request: Request, *, counting: bool) -> tuple[MessagesRequest, ChatRequest]:
    body, found = await read_request(request, MessagesRequest)
    notices: list[Notice] = list(found)
    if not body.model:
        raise InvalidRequest("model is required", field="model")
    if not counting and (body.max_tokens or 0) <= 0:
        raise InvalidRequest("max_tokens is required and must be positive", field="max_tokens")
    if not body.messages:
        raise InvalidRequest("messages is required", field="messages")
    settings = deps_of(request).settings
    fetched = await fetch_images(body.messages, enabled=settings.fetch_images)
    conversation = await decode(request, read_conversation, body, notices, fetched)
    tools = read_tools(body.tools or [], notices)
    options = {
        "num_predict": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
    }
    return body, ChatRequest(
        common=common_of(request, body, options, tuple(notices), strict=settings.strict),
        messages=conversation,
        tools=tools,
        tool_choice=read_tool_choice(body.tool_choice, tools),
        generic_tools=settings.generic_tools if body.generic_tools is None else body.generic_tools,
        keeps_all=True,
        unsupported_think=unsupported_think(body),
        parameters=GenerationParameters(
            constraint=read_output_format(body),
            think=read_think(body),
            prompt_progress=bool(body.stream),  # message_start tells what was in the cache
            call_pieces=bool(body.stream),
            whole=not body.stream,
            cache=bool(body.cache),
        ),
    )
