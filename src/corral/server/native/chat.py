"""POST /api/chat. Source: ollama server/routes.go ChatHandler, api/types.go ChatResponse, 2026-08."""

from __future__ import annotations

from functools import partial

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native import decode_chat
from corral.api.native_replies import (
    ChatReply,
    ReplyMessage,
    cache_of,
    calls_of,
    logprobs_of,
    progress_of,
    set_metrics,
    warnings_of,
)
from corral.api.timestamps import utc_now
from corral.core import Delta, Done, Event, Progress, Rendered
from corral.server.answer import Answer
from corral.server.body import decode, read_body
from corral.server.callers import caller_of
from corral.server.deps import deps_of
from corral.server.native.generate import debug_info
from corral.server.native.replies import answer_reply


async def chat(request: Request) -> Response:
    """Answer a conversation. Load, unload and debug answers are one object even when a stream was asked for."""
    decoded = await decode(request, decode_chat, await read_body(request), caller_of(request))
    wanted = decoded.request
    events = deps_of(request).inference.chat(wanted)
    stream = decoded.stream and bool(wanted.messages) and not wanted.parameters.render_only
    name = wanted.common.model
    return answer_reply(events, stream=stream, chunk=partial(chat_chunk, name), whole=partial(whole_chat, name))


def chat_chunk(model: str, event: Event) -> ChatReply:
    """One event as a line of the stream."""
    message = ReplyMessage()
    reply = ChatReply(model=model, created_at=utc_now(), message=message)
    if isinstance(event, Delta):
        message.content = event.content
        if event.thinking:
            message.thinking = event.thinking
        if event.tool_calls:
            message.tool_calls = calls_of(event.tool_calls)
        if event.logprobs:
            reply.logprobs = logprobs_of(event.logprobs)
    elif isinstance(event, Done):
        _finish(reply, event)
    elif isinstance(event, Progress):
        reply.progress = progress_of(event)
    else:
        _show(reply, event)
    return reply


def _finish(reply: ChatReply, done: Done) -> None:
    reply.done, reply.done_reason = True, done.reason
    if done.metrics:
        set_metrics(reply, done.metrics)
    reply.cache = cache_of(done.cache)
    reply.warnings = warnings_of(done.notices)


def _show(reply: ChatReply, rendered: Rendered) -> None:
    reply.message.role = ""
    reply.debug_info = debug_info(rendered)


def whole_chat(model: str, answer: Answer) -> ChatReply:
    """A reply that is not streamed: the last line, with all text, thinking, calls and logprobs of the run."""
    message = ReplyMessage()
    reply = ChatReply(model=model, created_at="", message=message)
    if answer.done is not None:
        reply.created_at = utc_now()
        message.content = "".join(answer.content)
        message.thinking = "".join(answer.thinking) or UNSET
        message.tool_calls = calls_of(answer.calls)
        reply.logprobs = logprobs_of(answer.logprobs)
        _finish(reply, answer.done)
    elif answer.rendered is not None:
        reply.created_at = utc_now()
        _show(reply, answer.rendered)
    return reply
