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
    calls_of,
    logprobs_of,
    progress_of,
    set_metrics,
    warnings_of,
)
from corral.api.timestamps import utc_now
from corral.core import Delta, Done, Event, Progress, Rendered, TokenLogprob, ToolCall
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
    return answer_reply(events, stream=stream, chunk=partial(chat_chunk, name), whole=WholeChat(name))


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
    reply.warnings = warnings_of(done.notices)


def _show(reply: ChatReply, rendered: Rendered) -> None:
    reply.message.role = ""
    reply.debug_info = debug_info(rendered)


class WholeChat:
    """A reply that is not streamed: the last line, with all text, thinking, calls and logprobs of the run."""

    def __init__(self, model: str) -> None:
        self.reply = ChatReply(model=model, created_at="", message=ReplyMessage())
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []

    def take(self, event: Event) -> None:
        """Add one event; Done and Rendered complete the reply."""
        if isinstance(event, Delta):
            self._text.append(event.content)
            self._thinking.append(event.thinking)
            self._calls.extend(event.tool_calls)
            self._logprobs.extend(event.logprobs)
        elif isinstance(event, Done):
            self._end(event)
        elif isinstance(event, Rendered):
            self.reply.created_at = utc_now()
            _show(self.reply, event)

    def _end(self, done: Done) -> None:
        self.reply.created_at = utc_now()
        message = self.reply.message
        message.content = "".join(self._text)
        message.thinking = "".join(self._thinking) or UNSET
        message.tool_calls = calls_of(self._calls)
        self.reply.logprobs = logprobs_of(self._logprobs)
        _finish(self.reply, done)
