"""POST /api/generate. Source: ollama server/routes.go GenerateHandler, api/types.go GenerateResponse, 2026-08."""

from __future__ import annotations

from functools import partial

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native import decode_generate
from corral.api.native_replies import (
    DebugInfo,
    GenerateReply,
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
from corral.server.native.replies import answer_reply


async def generate(request: Request) -> Response:
    """Complete a prompt. Load, unload and debug answers are one object even when a stream was asked for."""
    decoded = await decode(request, decode_generate, await read_body(request), caller_of(request))
    wanted = decoded.request
    events = deps_of(request).inference.generate(wanted)
    stream = decoded.stream and bool(wanted.prompt) and not wanted.parameters.render_only
    name = wanted.common.model
    return answer_reply(events, stream=stream, chunk=partial(generate_chunk, name), whole=WholeGenerate(name))


def generate_chunk(model: str, event: Event) -> GenerateReply:
    """One event as a line of the stream."""
    reply = GenerateReply(model=model, created_at=utc_now())
    if isinstance(event, Delta):
        reply.response = event.content
        if event.thinking:
            reply.thinking = event.thinking
        if event.tool_calls:
            reply.tool_calls = calls_of(event.tool_calls)
        if event.logprobs:
            reply.logprobs = logprobs_of(event.logprobs)
    elif isinstance(event, Done):
        finish_generate(reply, event)
    elif isinstance(event, Progress):
        reply.progress = progress_of(event)
    else:
        reply.debug_info = debug_info(event)
    return reply


def finish_generate(reply: GenerateReply, done: Done) -> None:
    """Put the end of a run on its last line."""
    reply.done, reply.done_reason = True, done.reason
    reply.context = list(done.context) if done.context else UNSET
    if done.metrics:
        set_metrics(reply, done.metrics)
    reply.warnings = warnings_of(done.notices)


def debug_info(rendered: Rendered) -> DebugInfo:
    """What a render-only request gets."""
    return DebugInfo(rendered_template=rendered.template, image_count=rendered.image_count or UNSET)


class WholeGenerate:
    """A reply that is not streamed: the last line, with all text, thinking and logprobs of the run."""

    def __init__(self, model: str) -> None:
        self.reply = GenerateReply(model=model, created_at="")
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
            self._finish(event)
        elif isinstance(event, Rendered):
            self.reply.created_at = utc_now()
            self.reply.debug_info = debug_info(event)

    def _finish(self, done: Done) -> None:
        self.reply.created_at = utc_now()
        self.reply.response = "".join(self._text)
        self.reply.thinking = "".join(self._thinking) or UNSET
        self.reply.tool_calls = calls_of(self._calls)
        self.reply.logprobs = logprobs_of(self._logprobs)
        finish_generate(self.reply, done)
