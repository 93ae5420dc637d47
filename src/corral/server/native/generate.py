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
from corral.server.native.replies import answer_reply


async def generate(request: Request) -> Response:
    """Complete a prompt. Load, unload and debug answers are one object even when a stream was asked for."""
    decoded = await decode(request, decode_generate, await read_body(request), caller_of(request))
    wanted = decoded.request
    events = deps_of(request).inference.generate(wanted)
    stream = decoded.stream and bool(wanted.prompt) and not wanted.parameters.render_only
    name = wanted.common.model
    return answer_reply(events, stream=stream, chunk=partial(generate_chunk, name), whole=partial(whole_generate, name))


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
    reply.cache = cache_of(done.cache)
    reply.warnings = warnings_of(done.notices)


def debug_info(rendered: Rendered) -> DebugInfo:
    """What a render-only request gets."""
    return DebugInfo(rendered_template=rendered.template, image_count=rendered.image_count or UNSET)


def whole_generate(model: str, answer: Answer) -> GenerateReply:
    """A reply that is not streamed: the last line, with all text, thinking, calls and logprobs of the run."""
    reply = GenerateReply(model=model, created_at="")
    if answer.done is not None:
        reply.created_at = utc_now()
        reply.response = "".join(answer.content)
        reply.thinking = "".join(answer.thinking) or UNSET
        reply.tool_calls = calls_of(answer.calls)
        reply.logprobs = logprobs_of(answer.logprobs)
        finish_generate(reply, answer.done)
    elif answer.rendered is not None:
        reply.created_at = utc_now()
        reply.debug_info = debug_info(answer.rendered)
    return reply
