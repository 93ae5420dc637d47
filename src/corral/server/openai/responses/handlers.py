"""POST /v1/responses, and GET and DELETE of a kept response.

A response is kept for `previous_response_id` unless the request says `store: false`; the `store` of the reply echoes
what was asked for, as Ollama's does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, cast

from msgspec import UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.openai import Reasoning
from corral.api.responses import ResponseReply, ResponsesRequest
from corral.core import ChatRequest, Delta, Done, Event, GenerationParameters, Message, Notice, Tool
from corral.server.body import decode
from corral.server.callers import owner_of
from corral.server.deps import Deps, deps_of
from corral.server.formats import read_format
from corral.server.openai.encoding import encode_json, new_id
from corral.server.openai.fields import common_of, stop_notices
from corral.server.openai.images import fetch_images
from corral.server.openai.messages import allowed_tools, read_effort, read_stop, read_tool_choice
from corral.server.openai.responses.events import ResponseEncoder, message_item
from corral.server.openai.responses.items import InputReader
from corral.server.openai.responses.store import ResponseStore
from corral.server.openai.responses.tools import OfferedTools, joined_choice
from corral.server.openai.wire import error_reply, json_reply, read_request, with_pings
from corral.server.stream import SSE, EventStream, Reply

log = logging.getLogger(__name__)
_STREAM_HEADERS = {"Cache-Control": "no-cache"}


async def create_response(request: Request) -> Response:
    """Serve one response."""
    body, found = await read_request(request, ResponsesRequest)
    deps, notices = deps_of(request), [*found, *stop_notices(body.stop)]
    earlier: Sequence[Message] = ()
    if body.previous_response_id:
        earlier = (await run_blocking(_store(request).load, body.previous_response_id)).messages
    reader = InputReader(await fetch_images(body.input, enabled=deps.settings.fetch_images))
    conversation = await decode(request, reader.read, body.input, earlier)
    offered = OfferedTools()
    offered.add([*(body.tools or []), *reader.tools])
    notices += [*reader.notices, *offered.notices()]
    chat = _chat_request(request, deps, body, conversation, offered.tools, notices)
    opening = _opening(body, asked=body.reasoning, streamed=bool(body.stream))
    encoder = ResponseEncoder(opening, offered.parts_of)
    events = _run(deps, chat)

    async def keep() -> None:
        await _keep(_store(request), body, conversation, encoder)

    if body.stream:
        frames = with_pings(encoder.frames(events, keep), deps.settings.ping_interval_s, encoder.ping)
        return EventStream(
            frames, bytes, media_type=SSE, fail=encoder.failure, refuse=error_reply, headers=_STREAM_HEADERS
        )
    return Reply(lambda: _whole(encoder, events, keep), error_reply)


async def kept_response(request: Request) -> Response:
    """GET: a kept response, as it was sent. DELETE: forget it."""
    wanted, store = request.path_params["response"], _store(request)
    if request.method == "DELETE":
        await run_blocking(store.delete, wanted)
        return json_reply({"id": wanted, "object": "response", "deleted": True})
    kept = await run_blocking(store.load, wanted)
    return Response(bytes(kept.reply) + b"\n", media_type="application/json")


def _store(request: Request) -> ResponseStore:
    return ResponseStore(deps_of(request).settings.home / "responses" / owner_of(request))


def _chat_request(
    request: Request,
    deps: Deps,
    body: ResponsesRequest,
    conversation: Sequence[Message],
    offered: Sequence[Tool],
    notices: list[Notice],
) -> ChatRequest:
    choice, tools = allowed_tools(joined_choice(body.tool_choice), offered)
    options = {
        "num_predict": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
        "stop": read_stop(body.stop),
    }
    system = (Message("system", body.instructions),) if body.instructions else ()
    parameters = GenerationParameters(
        constraint=read_format(body.text.format if body.text else None, "text.format"),
        think=read_effort(body.reasoning.effort if body.reasoning else None),
        logprobs=bool(body.top_logprobs),
        top_logprobs=body.top_logprobs or 0,
        call_pieces=bool(body.stream),
        whole=not body.stream,
        cache=bool(body.cache),
    )
    return ChatRequest(
        common=common_of(request, body, options, tuple(notices), strict=deps.settings.strict),
        messages=(*system, *conversation),
        tools=tools,
        tool_choice=read_tool_choice(choice, tools, parallel=body.parallel_tool_calls),
        generic_tools=deps.settings.generic_tools if body.generic_tools is None else body.generic_tools,
        keeps_all=body.truncation != "auto",
        parameters=parameters,
    )


def _run(deps: Deps, chat: ChatRequest) -> AsyncIterator[Event]:
    return deps.inference.chat(chat)


def _opening(body: ResponsesRequest, *, asked: Reasoning | None, streamed: bool) -> ResponseReply:
    """The response before anything was generated: what was asked for, echoed."""
    reasoning: dict[str, Any] | None = None
    if asked is not None:
        pairs = {"effort": asked.effort, "summary": asked.summary}
        reasoning = pairs if streamed else {key: value for key, value in pairs.items() if value is not None}
    nothing = {"type": "function", "name": "", "description": None, "strict": None, "parameters": None}
    return ResponseReply(
        id=new_id("resp_"),
        created_at=int(time.time()),
        model=body.model,
        previous_response_id=body.previous_response_id or None,
        instructions=body.instructions or None,
        tools=[({**nothing, **tool} if tool.get("type") == "function" else tool) for tool in body.tools or []],
        tool_choice="auto" if body.tool_choice is None else body.tool_choice,
        truncation=body.truncation or "disabled",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        text={"format": (body.text.format if body.text else None) or {"type": "text"}},
        top_p=1.0 if body.top_p is None else body.top_p,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_logprobs=body.top_logprobs or 0,
        reasoning=reasoning,
        max_output_tokens=body.max_output_tokens,
        store=bool(body.store),
        background=bool(body.background),
        metadata=body.metadata or {},
        safety_identifier=body.safety_identifier,
        prompt_cache_key=body.prompt_cache_key,
    )


async def _keep(
    store: ResponseStore, body: ResponsesRequest, conversation: Sequence[Message], encoder: ResponseEncoder
) -> None:
    """Keep the conversation, unless the client wants it forgotten; before the client reads that it has ended, so that
    it can go on from it at once.
    """
    if body.store is False:
        return
    answer = Message("assistant", encoder.text, encoder.thinking, tool_calls=tuple(encoder.calls))
    try:
        reply = encode_json(encoder.reply)
        await run_blocking(store.save, encoder.reply.id, (*conversation, answer), reply)
    except OSError:
        log.exception("the response could not be kept for previous_response_id")


async def _whole(
    encoder: ResponseEncoder, events: AsyncIterator[Event], keep: Callable[[], Awaitable[None]]
) -> Response:
    async with aclosing(cast("Any", events)) as stream:
        async for event in stream:
            if isinstance(event, Delta):
                encoder.take(event)
            elif isinstance(event, Done):
                _add_empty_message(encoder)
                encoder.end(event)
                await keep()
    reply = encoder.reply
    return json_reply(reply, 0 if isinstance(reply.warnings, UnsetType) else len(reply.warnings))


def _add_empty_message(encoder: ResponseEncoder) -> None:
    """A whole reply has a message item even when the model said nothing."""
    if not encoder.text and not encoder.calls:
        encoder.reply.output = [*encoder.reply.output, message_item(new_id("msg_"), "")]
